"""Concurrent answers to invites: several users, or several clicks, at the same moment."""

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Invite, InviteState, Org, OrgState, User, utcnow
from portal.web.extensions import db, limiter
from tests.portal.views.inviting import NEW, PASSWORD, Inviting, follow, submit
from tests.portal.views.org.concurrency import Request, run_together
from tests.support.cast import SignedIn

pytestmark = pytest.mark.slow

HEAD_STARTS = (-1.0, -0.05, -0.02, -0.01, -0.005, -0.002, 0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 1.0)
"""Seconds by which the first request is ahead in each round. The outer values guarantee that both orders happen."""


@pytest.fixture(autouse=True)
def unlimited_requests(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Switch off rate limits, and close the connections of the threads afterwards."""
    monkeypatch.setattr(limiter, "enabled", False)
    yield
    with app.app_context():
        db.engine.dispose()


def press(client: FlaskClient, verb: str, **data: str) -> Request:
    """Open the page of the invite, and return the request that its button sends."""
    page = client.get("/invite")
    return lambda: submit(client, verb, page, **data).status_code


def post(client: FlaskClient, path: str, **data: str) -> Request:
    """Return the request that sends a form."""
    return lambda: client.post(path, data=data).status_code


def leave(inviting: Inviting) -> None:
    """Let the new member leave, so that the next round starts from the same state."""
    with inviting.database.transaction() as session:
        session.get_one(Org, inviting.cast.org_id).state = OrgState.ACTIVE
    inviting.signed_in("nora").post("/o/acme/team/leave")


def test_fifty_parallel_acceptances_create_one_membership(inviting: Inviting) -> None:
    link = inviting.invite()
    inviting.add_person("nora")
    clients = [inviting.signed_in("nora") for _ in range(50)]
    for client in clients:
        follow(client, link)
    statuses = run_together([press(client, "accept") for client in clients])
    assert statuses == [303] * 50
    assert inviting.role_of() == "member"
    assert len(inviting.events("invite.accepted")) == len(inviting.events("member.joined")) == 1
    for client in clients:
        assert client.get("/o/acme/").status_code == 200, "no click ends the session"


def test_only_the_invited_user_joins_when_two_users_open_one_link(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.add_person("nora")
    for head_start in HEAD_STARTS:
        link = inviting.invite()
        nora, mallory = signed_in("nora"), signed_in("mallory")
        follow(nora, link)
        follow(mallory, link)
        revision = f"{inviting.latest_invite().id}-{inviting.latest_invite().version}"
        statuses = run_together(
            [press(nora, "accept"), post(mallory, "/invite/accept", seen=revision)],
            head_start,
        )
        assert statuses[0] == 303
        assert statuses[1] in {403, 410}
        assert inviting.role_of("mallory@example.com") is None
        leave(inviting)


def test_two_browsers_that_sign_up_with_one_link_create_one_account(inviting: Inviting, database: Database) -> None:
    link = inviting.invite()
    requests = []
    for name in ("Nora", "Nina"):
        browser = inviting.new_client()
        follow(browser, link)
        requests.append(press(browser, "join", name=name, password=PASSWORD))
    assert sorted(run_together(requests)) == [303, 410]
    with database.reading() as session:
        assert session.query(User).filter_by(email_normalized=NEW).count() == 1
    assert len(inviting.events("user.signed_up")) == len(inviting.events("member.joined")) == 1


def test_invite_is_either_accepted_or_revoked(inviting: Inviting, signed_in: SignedIn) -> None:
    inviting.add_person("nora")
    outcomes = set()
    for head_start in HEAD_STARTS:
        link = inviting.invite()
        nora, carol = signed_in("nora"), signed_in("carol")
        follow(nora, link)
        statuses = run_together(
            [press(nora, "accept"), post(carol, f"/o/acme/team/invites/{inviting.latest_invite().id}/revoke")],
            head_start,
        )
        state, role = inviting.latest_invite().state, inviting.role_of()
        assert (statuses, state, role) in (
            ([303, 409], InviteState.ACCEPTED, "member"),
            ([410, 303], InviteState.REVOKED, None),
        )
        outcomes.add(state)
        leave(inviting)
    assert len(outcomes) == 2


def test_invite_is_accepted_only_before_the_organization_is_deleted(
    inviting: Inviting, signed_in: SignedIn, database: Database
) -> None:
    inviting.add_person("nora")
    cheap_hash = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with database.transaction() as session:
        session.get_one(User, inviting.cast.people["alice"]).password_hash = cheap_hash
    outcomes = set()
    for head_start in HEAD_STARTS:
        link = inviting.invite()
        nora, alice = signed_in("nora"), signed_in("alice")
        follow(nora, link)
        deleting = post(alice, "/o/acme/delete", name="Acme", password=PASSWORD)
        statuses = run_together([press(nora, "accept"), deleting], head_start)
        assert statuses[1] == 303
        outcome = (statuses[0], inviting.latest_invite().state, inviting.role_of())
        assert outcome in ((303, InviteState.ACCEPTED, "member"), (410, InviteState.REVOKED, None))
        outcomes.add(outcome[0])
        with database.transaction() as session:
            org = session.get_one(Org, inviting.cast.org_id)
            assert org.state is OrgState.DELETING
            org.state, org.delete_after = OrgState.ACTIVE, None
            session.query(Invite).update({"expires_at": utcnow()})
        leave(inviting)
    assert outcomes == {303, 410}


def test_concurrent_invites_to_one_address_create_one_invite(inviting: Inviting, signed_in: SignedIn) -> None:
    clients = [signed_in(name) for name in ("alice", "carol") * 4]
    statuses = run_together([post(client, "/o/acme/team/invites", email=NEW, role="member") for client in clients])
    assert statuses == [303] * len(clients)
    assert len(inviting.all_invites()) == 1
    # Only the newest mail is sent.
    inviting.mailer.deliver_one_to(NEW)
