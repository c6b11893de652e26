"""Concurrent changes of memberships: the second change sees the result of the first."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Membership, MembershipRole, MembershipState, Org
from portal.web.extensions import db
from tests.portal.views.org.concurrency import Request, run_together
from tests.support.cast import Cast, SignedIn

pytestmark = pytest.mark.slow

ROUNDS = 30
STEP_SECONDS = 0.002
"""By how much the head start grows from round to round, so that both orders of the two requests happen."""


@pytest.fixture
def clients(app: Flask, signed_in: SignedIn) -> Iterator[dict[str, FlaskClient]]:
    """A signed-in browser for each member of Acme, for use in threads."""
    yield {name: signed_in(name) for name in ("alice", "bob", "carol")}
    with app.app_context():
        db.engine.dispose()


def reset(database: Database, cast: Cast, **roles: MembershipRole) -> dict[str, Membership]:
    """Make alice the owner again, offer Acme to bob, and give the members these roles. Return their rows."""
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


def read_state(database: Database, cast: Cast) -> tuple[str, set[str]]:
    """Return the name of Acme's owner and the names of its members."""
    names = {user_id: name for name, user_id in cast.people.items()}
    with database.reading() as session:
        owner = session.get_one(Org, cast.org_id).owner_id
        active = session.query(Membership).filter_by(org_id=cast.org_id, state=MembershipState.ACTIVE)
        return names[owner], {names[row.user_id] for row in active}


def remove(client: FlaskClient, row: Membership) -> Request:
    """Return the request that removes the member of `row`."""
    return lambda: client.post(f"/o/acme/team/{row.id}/remove", data={"version": row.version}).status_code


def accept(client: FlaskClient) -> Request:
    """Return the request that accepts the ownership."""
    return lambda: client.post("/o/acme/transfer/accept").status_code


def test_one_admin_stays_when_two_admins_remove_each_other(
    clients: dict[str, FlaskClient], database: Database, cast: Cast
) -> None:
    survivors = set()
    for number in range(ROUNDS):
        rows = reset(database, cast, bob=MembershipRole.ADMIN, carol=MembershipRole.ADMIN)
        head_start = (number - ROUNDS // 2) * STEP_SECONDS
        run_together([remove(clients["bob"], rows["carol"]), remove(clients["carol"], rows["bob"])], head_start)
        owner, people = read_state(database, cast)
        assert owner == "alice"
        assert people in ({"alice", "bob"}, {"alice", "carol"})
        survivors |= people
    assert survivors == {"alice", "bob", "carol"}, "one order never happened; increase STEP_SECONDS"


def test_removed_member_never_becomes_the_owner(
    clients: dict[str, FlaskClient], database: Database, cast: Cast
) -> None:
    outcomes = set()
    for number in range(ROUNDS):
        rows = reset(database, cast, bob=MembershipRole.MEMBER, carol=MembershipRole.ADMIN)
        head_start = (number - ROUNDS // 2) * STEP_SECONDS
        run_together([accept(clients["bob"]), remove(clients["carol"], rows["bob"])], head_start)
        outcome = read_state(database, cast)
        # The owner is a member in both orders.
        assert outcome in (("bob", {"alice", "bob", "carol"}), ("alice", {"alice", "carol"}))
        outcomes.add(outcome[0])
    assert outcomes == {"alice", "bob"}, "one order never happened; increase STEP_SECONDS"


def test_offer_accepted_twice_at_once_succeeds_once(
    clients: dict[str, FlaskClient], database: Database, cast: Cast
) -> None:
    for number in range(10):
        reset(database, cast, bob=MembershipRole.MEMBER, carol=MembershipRole.ADMIN)
        statuses = run_together([accept(clients["bob"])] * 2, number * STEP_SECONDS / 4)
        assert read_state(database, cast)[0] == "bob"
        assert 303 in statuses
