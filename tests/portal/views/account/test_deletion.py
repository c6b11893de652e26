"""Tests of account deletion."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Base,
    Event,
    EventTag,
    Invite,
    InviteState,
    Membership,
    MembershipRole,
    MembershipState,
    MemberSync,
    OneTimeToken,
    Org,
    OrgState,
    OutgoingMail,
    User,
    UserSession,
    utcnow,
)
from portal.services import events
from portal.services.account_changes import deletion
from portal.services.accounts.accounts import Credentials
from portal.services.errors import ConflictError
from portal.services.mail import delivery
from portal.services.orgs import creation, memberships, orgs
from tests import factories
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password, is_signed_in, new_client, sign_in
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import MailDelivery
from tests.support.scene import Scene


@pytest.fixture(autouse=True)
def _set_passwords(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice", "bob", "root")


def delete_account(client: FlaskClient, name: str, **changes: str) -> tuple[int, str]:
    """Submit the form and return the status and the text of the answer."""
    data = {"email": f"{name}@example.com", "current_password": PASSWORD, **changes}
    answer = client.post("/account/delete", data=data)
    return answer.status_code, answer.text


def test_deletion_erases_personal_data_memberships_and_sessions(
    app: Flask, mailer: MailDelivery, database: Database, cast: Cast, scene: Scene
) -> None:
    bob, other = sign_in(app, "bob"), sign_in(app, "bob")
    bob.post("/account/address", data={"address-email": "bobby@example.com", "address-current_password": PASSWORD})
    assert "Acme" in bob.get("/account/delete").text
    assert delete_account(bob, "bob")[0] == 303
    assert "Account deleted" in bob.get("/login").text
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
    # The mail with the link to the new email is obsolete.
    assert mailer.deliver() == []


def find_in_database(database: Database, *words: str) -> list[str]:
    """Return the tables that contain one of the words in a row, as text."""
    with database.engine.connect() as connection:
        return [
            table.name
            for table in Base.metadata.sorted_tables
            for row in connection.execute(sa.select(table))
            if any(word in str(row).lower() for word in words)
        ]


def test_deletion_erases_all_addresses_of_a_person_from_all_tables(
    app: Flask, mailer: MailDelivery, database: Database, cast: Cast, signed_in: SignedIn
) -> None:
    # Bob signs in, changes name and email, is invited, promoted, resent a mail, and has mails waiting.
    with database.transaction() as session:
        bob_row = session.get_one(User, cast.people["bob"])
        other = factories.org(session, session.get_one(User, cast.people["mallory"]), "other")
        for number, state in enumerate(InviteState):
            email = "Bob@Example.com" if number % 2 else "robert@example.com"
            factories.invite(session, other, other.owner, email, state=state)
        accepted = factories.invite(session, other, other.owner, "earlier@example.com", state=InviteState.ACCEPTED)
        accepted.accepted_by = bob_row.id
        for tag in (EventTag.USER_SIGNED_UP, EventTag.INVITE_SENT, EventTag.MEMBER_JOINED):
            data = {"email": "Bob@example.com", "invite_id": accepted.id, "role": "member"}
            events.record(session, tag, actor=cast.people["alice"], org_id=cast.org_id, data=data)
    bob = sign_in(app, "bob")
    bob.post("/account/name", data={"name-name": "Robert Tables"})
    bob.post("/account/address", data={"address-email": "robert@example.com", "address-current_password": PASSWORD})
    bob.get(mailer.deliver_link_to("robert@example.com"))
    assert bob.post("/account/email").status_code == 303
    new_client(app).post("/forgot", data={"email": "ROBERT@example.com"})
    with database.reading() as session:
        mail_id = session.query(OutgoingMail).filter_by(template="email_changed").one().id
    signed_in("root").post(f"/admin/mail/{mail_id}/resend")
    with database.transaction() as session:
        refused = delivery.claim_attempt(session, mail_id, "localhost", utcnow())
        assert refused is not None
        assert delivery.mark_failed(session, refused, "550 <bob@example.com> does not exist")
    words = ("bob@", "robert@", "earlier@", "tables")
    assert {"event_personal_data", "mail_outbox", "organization_invites", "users"} <= set(
        find_in_database(database, *words)
    )

    assert delete_account(bob, "robert")[0] == 303

    assert find_in_database(database, *words) == []
    # The events stay, and so do the addresses of others.
    assert find_in_database(database, "alice@example.com")
    log = signed_in("root").get("/admin/events").text
    assert "The email of deleted user was changed" in log
    assert "An email (email_changed) to deleted user could not be delivered" in log
    assert "All clear" in signed_in("root").get("/admin/").text
    assert "deleted user was invited" in log
    assert mailer.deliver() == []
    with database.reading() as session:
        assert {invite.state for invite in session.query(Invite)} == set(InviteState) - {InviteState.PENDING}
    page = signed_in("root").get("/admin/mail/").text
    assert "deleted user" in page
    assert signed_in("root").post(f"/admin/mail/{mail_id}/resend").status_code == 409


def test_former_address_that_another_account_has_now_is_kept(
    app: Flask, mailer: MailDelivery, database: Database, cast: Cast
) -> None:
    bob = sign_in(app, "bob")
    bob.post("/account/address", data={"address-email": "robert@example.com", "address-current_password": PASSWORD})
    bob.get(mailer.deliver_link_to("robert@example.com"))
    bob.post("/account/email")
    with database.transaction() as session:
        heir = factories.user(session, "heir", email="bob@example.com")
        events.record(session, EventTag.USER_SIGNED_UP, actor=heir, data={"user_id": heir.id, "email": heir.email})
        factories.invite(session, session.get_one(Org, cast.org_id), heir, "bob@example.com")
    # A name that is the address of another person gives no power over that person's data.
    bob.post("/account/name", data={"name-name": "alice@example.com"})
    bob.post("/account/name", data={"name-name": "Bob"})
    assert delete_account(bob, "robert")[0] == 303
    assert set(find_in_database(database, "bob@example.com")) == {
        "event_personal_data",
        "organization_invites",
        "users",
    }
    assert "users" in find_in_database(database, "alice@example.com")


def test_events_themselves_contain_no_addresses_and_names(
    app: Flask, mailer: MailDelivery, database: Database, signed_in: SignedIn
) -> None:
    alice = signed_in("alice")
    alice.post("/o/acme/team/invites", data={"email": "new@example.com", "role": "member"})
    bob = sign_in(app, "bob")
    bob.post("/account/name", data={"name-name": "Robert"})
    with database.reading() as session:
        assert [row for row in session.query(Event) if "@" in str(row.data) or "Robert" in str(row.data)] == []
        assert any("new@example.com" in str(row.facts) for row in session.query(Event))
    assert "new@example.com was invited" in alice.get("/o/acme/audit").text
    assert "new@example.com was invited" in alice.get("/o/acme/audit?person=NEW@").text


def test_email_of_a_deleted_account_can_sign_up_again(app: Flask, mailer: MailDelivery, database: Database) -> None:
    delete_account(sign_in(app, "bob"), "bob")
    fresh = new_client(app)
    assert fresh.post("/login", data={"email": "bob@example.com", "password": PASSWORD}).status_code == 422
    fresh.post("/signup", data={"email": "bob@example.com"})
    fresh.get(mailer.deliver_link_to("bob@example.com"))
    assert fresh.post("/signup/finish", data={"name": "Bob", "password": PASSWORD}).status_code == 303
    assert fresh.get("/o/acme/").status_code == 404


def test_owner_cannot_delete_the_account(app: Flask, database: Database, cast: Cast) -> None:
    alice = sign_in(app, "alice")
    page = alice.get("/account/delete").text
    assert "You own organizations" in page
    assert 'href="/o/acme/settings"' in page
    status, text = delete_account(alice, "alice")
    assert status == 409
    assert "You own Acme" in text
    assert is_signed_in(alice)
    with database.reading() as session:
        assert session.get_one(User, cast.people["alice"]).deleted_at is None


def test_deleted_organization_does_not_prevent_account_deletion(app: Flask, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.get_one(Org, cast.org_id).state = OrgState.DELETED
    alice, bob = sign_in(app, "alice"), sign_in(app, "bob")
    assert "Acme" not in alice.get("/account/delete").text
    assert "Acme" not in bob.get("/account/delete").text
    assert delete_account(alice, "alice")[0] == 303
    assert delete_account(bob, "bob")[0] == 303


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"current_password": OTHER_PASSWORD}, "Wrong password"),
        ({"current_password": ""}, "Enter your password"),
        ({"email": "carol@example.com"}, "bob@example.com"),
        ({"email": ""}, "Type your email"),
    ],
)
def test_deletion_requires_password_and_email(app: Flask, changes: dict[str, str], complaint: str) -> None:
    bob = sign_in(app, "bob")
    status, text = delete_account(bob, "bob", **changes)
    assert status == 422
    assert complaint in text
    assert is_signed_in(bob)


def test_last_operator_cannot_delete_the_account(app: Flask, database: Database, cast: Cast) -> None:
    root = sign_in(app, "root")
    status, text = delete_account(root, "root")
    assert status == 409
    assert "last operator" in text
    with database.transaction() as session:
        session.get_one(User, cast.people["carol"]).is_platform_admin = True
    assert delete_account(root, "root")[0] == 303


def create_org(session: Session, bob: User) -> None:
    """Create an organization that Bob owns."""
    creation.create_org(session, "Bob's own", bob, now=utcnow())


def join_org(session: Session, bob: User) -> None:
    """Add Bob to the organization Beta."""
    org = orgs.lock_org(session, session.query(Org).filter_by(slug="beta").one())
    memberships.add_member(session, org, bob, MembershipRole.MEMBER, actor=bob, now=utcnow())


@pytest.mark.parametrize("add_to_org", [create_org, join_org])
@pytest.mark.parametrize("deletion_first", [True, False])
def test_concurrent_deletion_and_membership_leave_a_consistent_state(
    database: Database, cast: Cast, add_to_org: Callable[[Session, User], None], deletion_first: bool
) -> None:
    with database.transaction() as session:
        creation.create_org(session, "Beta", session.get_one(User, cast.people["carol"]), now=utcnow())

    def add(session: Session) -> None:
        add_to_org(session, session.get_one(User, cast.people["bob"]))

    def delete(session: Session) -> None:
        bob = session.get_one(User, cast.people["bob"])
        deletion.delete_account(session, Credentials(bob.id, bob.password_hash), utcnow())

    def run_second() -> None:
        try:
            with database.transaction() as session:
                (add if deletion_first else delete)(session)
        except ConflictError as error:
            refusals.append(str(error))

    refusals: list[str] = []
    with database.transaction() as session:
        (delete if deletion_first else add)(session)
        thread = threading.Thread(target=run_second)
        thread.start()
        # Give the thread time to wait for the locks of this transaction.
        thread.join(0.3)
    thread.join()

    with database.reading() as session:
        bob = session.get_one(User, cast.people["bob"])
        owned = session.scalars(sa.select(Org).where(Org.owner_id == bob.id)).all()
        active = session.query(Membership).filter_by(user_id=bob.id, state=MembershipState.ACTIVE).all()
    assert bob.deleted_at is None or (owned, active) == ([], [])
    assert bool(refusals) or not deletion_first
