"""Deleting one's account."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Event,
    Membership,
    MembershipRole,
    MembershipState,
    MemberSync,
    OneTimeToken,
    Org,
    OrgState,
    User,
    UserSession,
    utcnow,
)
from portal.services.account_changes import deletion
from portal.services.accounts.accounts import Credentials
from portal.services.errors import ConflictError
from portal.services.orgs import creation, memberships, orgs
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, browser, give_password, is_signed_in, sign_in
from tests.support.cast import Cast
from tests.support.outbox import Post
from tests.support.scene import Scene


@pytest.fixture(autouse=True)
def _passwords(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice", "bob", "root")


def delete(client: FlaskClient, name: str, **changes: str) -> tuple[int, str]:
    """Send the form; the status and the text of the answer."""
    data = {"email": f"{name}@example.com", "present": PASSWORD, **changes}
    answer = client.post("/account/delete", data=data)
    return answer.status_code, answer.text


def test_nothing_of_a_deleted_person_stays(
    app: Flask, post: Post, database: Database, cast: Cast, scene: Scene
) -> None:
    bob, other = sign_in(app, "bob"), sign_in(app, "bob")
    bob.post("/account/address", data={"address-email": "bobby@example.com", "address-present": PASSWORD})
    assert "Acme" in bob.get("/account/delete").text
    assert delete(bob, "bob")[0] == 303
    assert "Your account is deleted" in bob.get("/login").text
    assert not is_signed_in(bob)
    assert not is_signed_in(other)

    with database.reading() as session:
        user = session.get_one(User, cast.people["bob"])
        assert (user.name, user.email, user.password_hash) == ("deleted user", "", None)
        membership = session.query(Membership).filter_by(user_id=user.id).one()
        assert membership.state is MembershipState.REMOVED
        assert {row.desired_role for row in session.query(MemberSync).filter_by(user_id=user.id)} == {"none"}
        assert session.query(UserSession).filter_by(user_id=user.id).count() == 0
        assert session.query(OneTimeToken).count() == 0
        tags = [event.tag for event in session.query(Event).filter_by(actor_id=user.id).order_by(Event.id)]
        assert tags[-2:] == ["member.left", "user.deleted"]
    # The mail about the new address has lost its reason.
    assert post.deliver() == []


def test_the_address_is_free_again(app: Flask, post: Post, database: Database) -> None:
    delete(sign_in(app, "bob"), "bob")
    fresh = browser(app)
    assert fresh.post("/login", data={"email": "bob@example.com", "password": PASSWORD}).status_code == 422
    fresh.post("/signup", data={"email": "bob@example.com"})
    fresh.get(post.link("bob@example.com"))
    assert fresh.post("/signup/finish", data={"name": "Bob", "password": PASSWORD}).status_code == 303
    assert fresh.get("/o/acme/").status_code == 404


def test_owners_hand_over_first(app: Flask, database: Database, cast: Cast) -> None:
    alice = sign_in(app, "alice")
    page = alice.get("/account/delete").text
    assert "You own organizations" in page
    assert 'href="/o/acme/settings"' in page
    status, text = delete(alice, "alice")
    assert status == 409
    assert "You own Acme" in text
    assert is_signed_in(alice)
    with database.reading() as session:
        assert session.get_one(User, cast.people["alice"]).deleted_at is None


def test_what_was_deleted_for_good_keeps_nobody(app: Flask, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.get_one(Org, cast.org_id).state = OrgState.DELETED
    alice, bob = sign_in(app, "alice"), sign_in(app, "bob")
    assert "Acme" not in alice.get("/account/delete").text
    assert "Acme" not in bob.get("/account/delete").text
    assert delete(alice, "alice")[0] == 303
    assert delete(bob, "bob")[0] == 303


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"present": OTHER_PASSWORD}, "This is not your password"),
        ({"present": ""}, "Enter your password"),
        ({"email": "carol@example.com"}, "bob@example.com"),
        ({"email": ""}, "Type your address"),
    ],
)
def test_it_takes_password_and_address(app: Flask, changes: dict[str, str], complaint: str) -> None:
    bob = sign_in(app, "bob")
    status, text = delete(bob, "bob", **changes)
    assert status == 422
    assert complaint in text
    assert is_signed_in(bob)


def test_the_last_operator_stays(app: Flask, database: Database, cast: Cast) -> None:
    root = sign_in(app, "root")
    status, text = delete(root, "root")
    assert status == 409
    assert "last operator" in text
    with database.transaction() as session:
        session.get_one(User, cast.people["carol"]).is_platform_admin = True
    assert delete(root, "root")[0] == 303


def make_org(session: Session, bob: User) -> None:
    """Make an organization of bob's."""
    creation.create_org(session, "Bob's own", bob)


def rejoin(session: Session, bob: User) -> None:
    """Bring bob into Beta."""
    org = orgs.lock_org(session, session.query(Org).filter_by(slug="beta").one())
    memberships.add_member(session, org, bob, MembershipRole.MEMBER, bob)


@pytest.mark.parametrize("gift", [make_org, rejoin])
@pytest.mark.parametrize("deletion_first", [True, False])
def test_nobody_is_given_an_organization_while_being_deleted(
    database: Database, cast: Cast, gift: Callable[[Session, User], None], deletion_first: bool
) -> None:
    with database.transaction() as session:
        creation.create_org(session, "Beta", session.get_one(User, cast.people["carol"]))

    def give(session: Session) -> None:
        gift(session, session.get_one(User, cast.people["bob"]))

    def remove(session: Session) -> None:
        bob = session.get_one(User, cast.people["bob"])
        deletion.delete_account(session, Credentials(bob.id, bob.password_hash), utcnow())

    def second() -> None:
        try:
            with database.transaction() as session:
                (give if deletion_first else remove)(session)
        except ConflictError as error:
            refusals.append(str(error))

    refusals: list[str] = []
    with database.transaction() as session:
        (remove if deletion_first else give)(session)
        thread = threading.Thread(target=second)
        thread.start()
        # Time to run into the locks that this transaction holds.
        thread.join(0.3)
    thread.join()

    with database.reading() as session:
        bob = session.get_one(User, cast.people["bob"])
        owned = session.scalars(sa.select(Org).where(Org.owner_id == bob.id)).all()
        active = session.query(Membership).filter_by(user_id=bob.id, state=MembershipState.ACTIVE).all()
    assert bob.deleted_at is None or (owned, active) == ([], [])
    assert bool(refusals) or not deletion_first
