"""Transfer of ownership: offer, mail, acceptance, and every way in which an offer ends."""

import re
from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import Event, Membership, MembershipRole, Org, OutgoingMail, SyncRole, utcnow
from portal.services.orgs import transfers
from tests.portal.views.org.test_team import Team
from tests.portal.views.people import OTHER_PASSWORD, PASSWORD, give_password
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import MailDelivery, bodies
from tests.support.scene import Scene

pytestmark = pytest.mark.requests


@pytest.fixture
def team(database: Database, cast: Cast) -> Team:
    """The memberships of Acme. Its owner has a password."""
    give_password(database, cast, "alice")
    return Team(database, cast)


def acme(team: Team) -> Org:
    """Read the current row of Acme."""
    with team.database.reading() as session:
        return session.get_one(Org, team.cast.org_id)


def offer(signed_in: SignedIn, team: Team, name: str, by: str = "alice") -> int:
    """Offer Acme to a user and return the status."""
    data = {"user_id": team.cast.people[name], "password": PASSWORD}
    return signed_in(by).post("/o/acme/transfer", data=data).status_code


def mails(team: Team) -> list[tuple[str, str]]:
    """Return template and recipient of all mails in the outbox, sorted."""
    with team.database.reading() as session:
        return sorted((mail.template, mail.to) for mail in session.query(OutgoingMail))


@pytest.mark.every_database
def test_accepted_offer_swaps_the_owner_and_makes_the_previous_owner_an_admin(
    signed_in: SignedIn, team: Team, scene: Scene
) -> None:
    alice, bob = signed_in("alice"), signed_in("bob")
    assert "Bob · bob@example.com" in alice.get("/o/acme/settings").text
    assert offer(signed_in, team, "bob") == 303
    # Nothing has changed yet, and only the two of them see the offer.
    assert acme(team).owner_id == team.cast.people["alice"]
    assert "You offered Acme to Bob" in alice.get("/o/acme/settings").text
    assert "Alice offers you the ownership of Acme" in bob.get("/o/acme/team").text
    assert "offers you" not in signed_in("carol").get("/o/acme/team").text
    offers = [("ownership_offer_sent", "alice@example.com"), ("ownership_offered", "bob@example.com")]
    assert mails(team) == offers

    assert bob.post("/o/acme/transfer/accept").location == "/o/acme/"
    assert acme(team).owner_id == team.cast.people["bob"]
    assert (acme(team).transfer_to, team.role("alice"), team.role("bob")) == (None, "admin", "admin")
    assert {role for role, _ in team.desired_roles("bob")} == {SyncRole.OWNER}
    assert {role for role, _ in team.desired_roles("alice")} == {SyncRole.ADMIN}
    # The rights of both changed at once.
    assert alice.get("/o/acme/delete").status_code == 403
    assert bob.get("/o/acme/delete").status_code == 200
    assert team.tags() == ["transfer.offered", "transfer.accepted"]
    assert mails(team) == [
        *offers,
        ("ownership_transferred", "alice@example.com"),
        ("ownership_transferred", "bob@example.com"),
    ]
    assert team.post(bob, "alice", "role", role="member")[0] == 303


@pytest.mark.parametrize(
    ("password", "error"), [("", "Enter your password"), (OTHER_PASSWORD, "Wrong password"), (None, "Enter your")]
)
def test_offer_requires_the_password_of_the_owner(
    signed_in: SignedIn, team: Team, password: str | None, error: str
) -> None:
    data = {"user_id": team.cast.people["bob"], "password": password}
    answer = signed_in("alice").post("/o/acme/transfer", data=data)
    assert answer.status_code == 422
    assert error in answer.text
    assert (acme(team).transfer_to, mails(team)) == (None, [])


def test_mails_about_ownership_name_both_sides(signed_in: SignedIn, team: Team, mailer: MailDelivery) -> None:
    offer(signed_in, team, "bob")
    sent = {message["To"]: message for message in mailer.deliver()}
    assert sent["alice@example.com"]["Subject"] == "You offered the ownership of Acme"
    assert "you offered Bob the ownership of Acme" in bodies(sent["alice@example.com"])[0]
    signed_in("bob").post("/o/acme/transfer/accept")
    sent = {message["To"]: message for message in mailer.deliver()}
    assert "Bob accepted the ownership of Acme. You are an admin now." in bodies(sent["alice@example.com"])[0]
    assert "you are now the owner of Acme" in bodies(sent["bob@example.com"])[0]


def test_mail_about_an_offer_that_was_withdrawn_is_not_sent(
    signed_in: SignedIn, team: Team, mailer: MailDelivery
) -> None:
    offer(signed_in, team, "bob")
    signed_in("alice").post("/o/acme/transfer/withdraw")
    assert mailer.deliver() == []


def test_new_owner_gets_a_new_session(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    before = bob.get_cookie("flotilla-session")
    bob.post("/o/acme/transfer/accept")
    after = bob.get_cookie("flotilla-session")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    assert bob.get("/o/acme/delete").status_code == 200
    bob.set_cookie("flotilla-session", before.value)
    assert bob.get("/o/acme/").location == "/login?next=/o/acme/"


def test_offer_can_be_accepted_once(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    assert [bob.post("/o/acme/transfer/accept").status_code for _ in range(2)] == [303, 409]
    assert team.tags().count("transfer.accepted") == 1


@pytest.mark.parametrize("name", ["mallory", "alice", "root"])
def test_ownership_can_be_offered_to_other_members_only(signed_in: SignedIn, team: Team, name: str) -> None:
    assert offer(signed_in, team, name) == 422
    assert acme(team).transfer_to is None


def test_only_the_recipient_of_an_offer_can_answer_it(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    for name in ("carol", "alice"):
        for verb in ("accept", "decline"):
            assert signed_in(name).post(f"/o/acme/transfer/{verb}").status_code == 409
    assert acme(team).transfer_to == team.cast.people["bob"]


def test_declined_offer_cannot_be_accepted(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    assert bob.post("/o/acme/transfer/decline").status_code == 303
    assert bob.post("/o/acme/transfer/accept").status_code == 409
    assert team.tags() == ["transfer.offered", "transfer.declined"]


def test_withdrawn_offer_cannot_be_accepted(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    alice = signed_in("alice")
    for _ in range(2):
        assert alice.post("/o/acme/transfer/withdraw").status_code == 303
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409
    assert team.tags() == ["transfer.offered", "transfer.withdrawn"]


@pytest.mark.every_database
def test_newer_offer_replaces_the_older_one(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    offer(signed_in, team, "carol")
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409
    assert signed_in("carol").post("/o/acme/transfer/accept").status_code == 303
    with team.database.reading() as session:
        assert session.query(OutgoingMail).filter_by(template="ownership_offered").count() == 2


@pytest.mark.every_database
def test_offer_expires_after_72_hours(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    until = acme(team).transfer_expires_at
    assert until is not None
    assert timedelta(hours=71) < until - utcnow() <= timedelta(hours=72)
    with team.database.transaction() as session:
        transfers.expire_offers(session, until - timedelta(seconds=1))
    assert acme(team).transfer_to is not None
    with team.database.transaction() as session:
        session.get_one(Org, team.cast.org_id).transfer_expires_at = utcnow() - timedelta(seconds=1)
    # An expired offer is invalid even before the scheduler ends it.
    bob = signed_in("bob")
    assert "offers you" not in bob.get("/o/acme/").text
    assert bob.post("/o/acme/transfer/accept").status_code == 409
    with team.database.transaction() as session:
        transfers.expire_offers(session, utcnow())
    assert acme(team).transfer_to is None
    assert team.tags() == ["transfer.offered", "transfer.expired"]


@pytest.mark.every_database
@pytest.mark.parametrize("way", ["removed", "left"])
def test_offer_ends_when_its_recipient_leaves_or_is_removed(signed_in: SignedIn, team: Team, way: str) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    if way == "left":
        bob.post("/o/acme/team/leave")
    else:
        team.post(signed_in("carol"), "bob", "remove")
    assert bob.post("/o/acme/transfer/accept").location == "/orgs"
    assert (acme(team).owner_id, acme(team).transfer_to) == (team.cast.people["alice"], None)


def test_offer_stays_valid_after_a_role_change(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "carol")
    team.post(signed_in("alice"), "carol", "role", role="member")
    assert signed_in("carol").post("/o/acme/transfer/accept").status_code == 303
    assert team.row("carol").role is MembershipRole.ADMIN


def test_events_name_the_previous_and_the_new_owner(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    signed_in("bob").post("/o/acme/transfer/accept")
    people = team.cast.people
    with team.database.reading() as session:
        offered, accepted = session.query(Event).order_by(Event.id)
        assert (offered.actor_id, offered.data) == (people["alice"], {"user_id": people["bob"]})
        assert (accepted.actor_id, accepted.data) == (people["bob"], {"old": people["alice"], "new": people["bob"]})
        assert session.query(Membership).filter_by(org_id=team.cast.org_id, state="active").count() == 3


def test_owner_without_other_members_sees_no_transfer_form(signed_in: SignedIn) -> None:
    mallory = signed_in("mallory")
    mallory.post("/orgs/new", data={"name": "Solo"})
    page = mallory.get("/o/solo/settings").text
    assert "first invite its new owner" in page
    assert not re.search(r'name="user_id"', page)
