"""People who act at the same moment: whoever is second sees what the first one did."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Membership, MembershipRole, MembershipState, Org
from portal.web.extensions import db
from tests.support.cast import Cast, SignedIn

ROUNDS = 30
STEP_SECONDS = 0.002
"""How much later than in the round before the second one begins, so that every order of the two happens."""

Act = Callable[[], int]


@pytest.fixture
def clients(app: Flask, signed_in: SignedIn) -> Iterator[dict[str, FlaskClient]]:
    """A browser for each of the cast, for use in threads."""
    yield {name: signed_in(name) for name in ("alice", "bob", "carol")}
    with app.app_context():
        db.engine.dispose()


def together(first: Act, second: Act, head_start: float) -> tuple[int, int]:
    """Let two people act at once, the second `head_start` seconds later (or earlier); gives both statuses."""
    statuses: dict[str, int] = {}
    start = threading.Barrier(2)

    def run(name: str, act: Act, delay: float) -> None:
        start.wait()
        time.sleep(max(0.0, delay))
        statuses[name] = act()

    threads = [
        threading.Thread(target=run, args=("first", first, -head_start)),
        threading.Thread(target=run, args=("second", second, head_start)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses["first"], statuses["second"]


def reset(database: Database, cast: Cast, **roles: MembershipRole) -> dict[str, Membership]:
    """Acme is alice's again and offered to bob, with these members; gives the rows as a form would see them."""
    with database.transaction() as session:
        org = session.get_one(Org, cast.org_id)
        org.owner_id, org.transfer_to = cast.people["alice"], cast.people["bob"]
        org.transfer_expires_at = org.created_at.replace(year=2100)
        rows = {}
        for name, role in roles.items():
            row = session.query(Membership).filter_by(org_id=org.id, user_id=cast.people[name]).one()
            row.role, row.state = role, MembershipState.ACTIVE
            rows[name] = row
        return rows


def state(database: Database, cast: Cast) -> tuple[str, set[str]]:
    """Who owns Acme, and who belongs to it."""
    names = {user_id: name for name, user_id in cast.people.items()}
    with database.reading() as session:
        owner = session.get_one(Org, cast.org_id).owner_id
        active = session.query(Membership).filter_by(org_id=cast.org_id, state=MembershipState.ACTIVE)
        return names[owner], {names[row.user_id] for row in active}


def removal(client: FlaskClient, row: Membership) -> Act:
    """Remove somebody as seen in `row`."""
    return lambda: client.post(f"/o/acme/team/{row.id}/remove", data={"version": row.version}).status_code


def test_of_two_admins_who_remove_each_other_one_stays(
    clients: dict[str, FlaskClient], database: Database, cast: Cast
) -> None:
    stayed = set()
    for number in range(ROUNDS):
        rows = reset(database, cast, bob=MembershipRole.ADMIN, carol=MembershipRole.ADMIN)
        head_start = (number - ROUNDS // 2) * STEP_SECONDS
        together(removal(clients["bob"], rows["carol"]), removal(clients["carol"], rows["bob"]), head_start)
        owner, people = state(database, cast)
        assert owner == "alice"
        assert people in ({"alice", "bob"}, {"alice", "carol"})
        stayed |= people
    assert stayed == {"alice", "bob", "carol"}, "the race always went one way; widen STEP_SECONDS"


def test_a_transfer_against_the_removal_of_the_new_owner(
    clients: dict[str, FlaskClient], database: Database, cast: Cast
) -> None:
    outcomes = set()
    for number in range(ROUNDS):
        rows = reset(database, cast, bob=MembershipRole.MEMBER, carol=MembershipRole.ADMIN)
        head_start = (number - ROUNDS // 2) * STEP_SECONDS
        together(
            lambda: clients["bob"].post("/o/acme/transfer/accept").status_code,
            removal(clients["carol"], rows["bob"]),
            head_start,
        )
        outcome = state(database, cast)
        # Never an owner who does not belong to the organization, whoever was first.
        assert outcome in (("bob", {"alice", "bob", "carol"}), ("alice", {"alice", "carol"}))
        outcomes.add(outcome[0])
    assert outcomes == {"alice", "bob"}, "the race always went one way; widen STEP_SECONDS"


def test_two_people_accept_nothing_twice(clients: dict[str, FlaskClient], database: Database, cast: Cast) -> None:
    for number in range(10):
        reset(database, cast, bob=MembershipRole.MEMBER, carol=MembershipRole.ADMIN)

        def accept() -> int:
            return clients["bob"].post("/o/acme/transfer/accept").status_code

        statuses = together(accept, accept, number * STEP_SECONDS / 4)
        assert state(database, cast)[0] == "bob"
        assert 303 in statuses
