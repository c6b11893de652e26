"""Invites that several people, or several clicks, answer at the same moment."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Invite, InviteState, Org, OrgState, User, utcnow
from portal.web.extensions import db, limiter
from tests.portal.views.inviting import NEW, PASSWORD, Inviting, answer, follow
from tests.support.cast import SignedIn

HEAD_STARTS = (-1.0, -0.05, -0.02, -0.01, -0.005, -0.002, 0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 1.0)
"""By how many seconds the first one is ahead in each round: every order of the two happens, surely the outer ones."""

Act = Callable[[], int]


@pytest.fixture(autouse=True)
def many_rounds(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limit nothing, and close what the threads opened."""
    monkeypatch.setattr(limiter, "enabled", False)
    yield
    with app.app_context():
        db.engine.dispose()


def together(acts: Sequence[Act], head_start: float = 0) -> list[int]:
    """Let everybody act at once, the first one `head_start` seconds before (or after) the others; gives statuses."""
    statuses = [0] * len(acts)
    start = threading.Barrier(len(acts))

    def run(number: int) -> None:
        start.wait()
        time.sleep(max(0.0, head_start if number else -head_start))
        statuses[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def pressing(client: FlaskClient, verb: str, **data: str) -> Act:
    """Press a button of the page that the browser shows now."""
    page = client.get("/invite")
    return lambda: answer(client, verb, page, **data).status_code


def sending(client: FlaskClient, path: str, **data: str) -> Act:
    """Send a form."""
    return lambda: client.post(path, data=data).status_code


def leave(inviting: Inviting) -> None:
    """Let the new person go, so that the next round begins where this one did."""
    with inviting.database.transaction() as session:
        session.get_one(Org, inviting.cast.org_id).state = OrgState.ACTIVE
    inviting.signed_in("nora").post("/o/acme/team/leave")


def test_fifty_parallel_acceptances_make_one_membership(inviting: Inviting) -> None:
    link = inviting.invited()
    inviting.add_person("nora")
    clients = [inviting.signed_in("nora") for _ in range(50)]
    for client in clients:
        follow(client, link)
    statuses = together([pressing(client, "accept") for client in clients])
    assert statuses == [303] * 50
    assert inviting.role_of() == "member"
    assert len(inviting.events("invite.accepted")) == len(inviting.events("member.joined")) == 1
    for client in clients:
        assert client.get("/o/acme/").status_code == 200, "no click costs the session"


def test_of_two_people_at_one_link_only_the_invited_one_gets_in(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.add_person("nora")
    for head_start in HEAD_STARTS:
        link = inviting.invited()
        nora, mallory = signed_in("nora"), signed_in("mallory")
        follow(nora, link)
        follow(mallory, link)
        mark = f"{inviting.row().id}-{inviting.row().version}"
        statuses = together(
            [pressing(nora, "accept"), sending(mallory, "/invite/accept", seen=mark)],
            head_start,
        )
        assert statuses[0] == 303
        assert statuses[1] in {403, 410}
        assert inviting.role_of("mallory@example.com") is None
        leave(inviting)


def test_two_browsers_that_sign_up_at_one_link_make_one_account(inviting: Inviting, database: Database) -> None:
    link = inviting.invited()
    acts = []
    for name in ("Nora", "Nina"):
        browser = inviting.browser()
        follow(browser, link)
        acts.append(pressing(browser, "join", name=name, password=PASSWORD))
    assert sorted(together(acts)) == [303, 410]
    with database.reading() as session:
        assert session.query(User).filter_by(email_normalized=NEW).count() == 1
    assert len(inviting.events("user.signed_up")) == len(inviting.events("member.joined")) == 1


def test_acceptance_against_revocation(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.add_person("nora")
    outcomes = set()
    for head_start in HEAD_STARTS:
        link = inviting.invited()
        nora, carol = signed_in("nora"), signed_in("carol")
        follow(nora, link)
        statuses = together(
            [pressing(nora, "accept"), sending(carol, f"/o/acme/team/invites/{inviting.row().id}/revoke")],
            head_start,
        )
        state, role = inviting.row().state, inviting.role_of()
        assert (statuses, state, role) in (
            ([303, 409], InviteState.ACCEPTED, "member"),
            ([410, 303], InviteState.REVOKED, None),
        )
        outcomes.add(state)
        leave(inviting)
    assert len(outcomes) == 2


def test_acceptance_against_the_deletion_of_the_organization(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    inviting.add_person("nora")
    quickly_verified = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with database.transaction() as session:
        session.get_one(User, inviting.cast.people["alice"]).password_hash = quickly_verified
    outcomes = set()
    for head_start in HEAD_STARTS:
        link = inviting.invited()
        nora, alice = signed_in("nora"), signed_in("alice")
        follow(nora, link)
        deleting = sending(alice, "/o/acme/delete", name="Acme", password=PASSWORD)
        statuses = together([pressing(nora, "accept"), deleting], head_start)
        assert statuses[1] == 303
        outcome = (statuses[0], inviting.row().state, inviting.role_of())
        assert outcome in ((303, InviteState.ACCEPTED, "member"), (410, InviteState.PENDING, None))
        outcomes.add(outcome[0])
        with database.transaction() as session:
            org = session.get_one(Org, inviting.cast.org_id)
            assert org.state is OrgState.DELETING
            org.state, org.delete_after = OrgState.ACTIVE, None
            session.query(Invite).update({"expires_at": utcnow()})
        leave(inviting)
    assert outcomes == {303, 410}


def test_inviting_one_address_at_once_makes_one_invite(inviting: Inviting, signed_in: SignedIn) -> None:
    clients = [signed_in(name) for name in ("alice", "carol") * 4]
    statuses = together([sending(client, "/o/acme/team/invites", email=NEW, role="member") for client in clients])
    assert statuses == [303] * len(clients)
    assert len(inviting.rows()) == 1
    # Of the mails only the newest is sent.
    inviting.post.one_to(NEW)
