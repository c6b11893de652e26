"""Handing an organization over: offer, mail, acceptance, and everything that ends an offer."""

import re
from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import Event, Membership, MembershipRole, Org, OutgoingMail, SyncRole, utcnow
from portal.services.orgs import transfers
from tests.portal.views.org.test_team import Team
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene


@pytest.fixture
def team(database: Database, cast: Cast) -> Team:
    """Acme's people."""
    return Team(database, cast)


def acme(team: Team) -> Org:
    """The organization as it is now."""
    with team.database.reading() as session:
        return session.get_one(Org, team.cast.org_id)


def offer(signed_in: SignedIn, team: Team, name: str, by: str = "alice") -> int:
    """Offer Acme to somebody; gives the status."""
    return signed_in(by).post("/o/acme/transfer", data={"user_id": team.cast.people[name]}).status_code


def test_an_accepted_offer_makes_the_member_owner_and_the_owner_an_admin(
    signed_in: SignedIn, team: Team, scene: Scene
) -> None:
    alice, bob = signed_in("alice"), signed_in("bob")
    assert "Bob · bob@example.com" in alice.get("/o/acme/settings").text
    assert offer(signed_in, team, "bob") == 303
    # Nothing has changed yet; both are told, and nobody else.
    assert acme(team).owner_id == team.cast.people["alice"]
    assert "You offered Acme to Bob" in alice.get("/o/acme/settings").text
    assert "Alice offers you Acme" in bob.get("/o/acme/team").text
    assert "offers you" not in signed_in("carol").get("/o/acme/team").text
    with team.database.reading() as session:
        (mail,) = session.query(OutgoingMail)
        assert (mail.to, mail.template) == ("bob@example.com", "ownership_offered")

    assert bob.post("/o/acme/transfer/accept").location == "/o/acme/"
    assert acme(team).owner_id == team.cast.people["bob"]
    assert (acme(team).transfer_to, team.role("alice"), team.role("bob")) == (None, "admin", "admin")
    assert {role for role, _ in team.wishes("bob")} == {SyncRole.OWNER}
    assert {role for role, _ in team.wishes("alice")} == {SyncRole.ADMIN}
    # Both rights changed hands at once.
    assert alice.get("/o/acme/delete").status_code == 403
    assert bob.get("/o/acme/delete").status_code == 200
    assert team.tags() == ["transfer.offered", "transfer.accepted"]
    assert team.post(bob, "alice", "role", role="member")[0] == 303


def test_who_becomes_owner_gets_a_new_session(signed_in: SignedIn, team: Team) -> None:
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


def test_an_offer_can_be_accepted_once(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    assert [bob.post("/o/acme/transfer/accept").status_code for _ in range(2)] == [303, 409]
    assert team.tags().count("transfer.accepted") == 1


@pytest.mark.parametrize("name", ["mallory", "alice", "root"])
def test_only_members_can_be_offered_it(signed_in: SignedIn, team: Team, name: str) -> None:
    assert offer(signed_in, team, name) == 422
    assert acme(team).transfer_to is None


def test_only_the_one_it_was_offered_to_accepts_or_declines(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    for name in ("carol", "alice"):
        for verb in ("accept", "decline"):
            assert signed_in(name).post(f"/o/acme/transfer/{verb}").status_code == 409
    assert acme(team).transfer_to == team.cast.people["bob"]


def test_a_declined_offer_is_over(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    assert bob.post("/o/acme/transfer/decline").status_code == 303
    assert bob.post("/o/acme/transfer/accept").status_code == 409
    assert team.tags() == ["transfer.offered", "transfer.declined"]


def test_an_offer_can_be_taken_back(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    alice = signed_in("alice")
    for _ in range(2):
        assert alice.post("/o/acme/transfer/withdraw").status_code == 303
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409
    assert team.tags() == ["transfer.offered", "transfer.withdrawn"]


def test_a_newer_offer_replaces_the_older(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    offer(signed_in, team, "carol")
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409
    assert signed_in("carol").post("/o/acme/transfer/accept").status_code == 303
    with team.database.reading() as session:
        assert session.query(OutgoingMail).count() == 2


def test_an_offer_stands_for_72_hours(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    until = acme(team).transfer_expires_at
    assert until is not None
    assert timedelta(hours=71) < until - utcnow() <= timedelta(hours=72)
    with team.database.transaction() as session:
        transfers.expire_offers(session, until - timedelta(seconds=1))
    assert acme(team).transfer_to is not None
    with team.database.transaction() as session:
        session.get_one(Org, team.cast.org_id).transfer_expires_at = utcnow() - timedelta(seconds=1)
    # Whether or not anybody has tidied up meanwhile.
    bob = signed_in("bob")
    assert "offers you" not in bob.get("/o/acme/").text
    assert bob.post("/o/acme/transfer/accept").status_code == 409
    with team.database.transaction() as session:
        transfers.expire_offers(session, utcnow())
    assert acme(team).transfer_to is None
    assert team.tags() == ["transfer.offered", "transfer.expired"]


@pytest.mark.parametrize("way", ["removed", "left"])
def test_an_offer_ends_when_its_member_goes(signed_in: SignedIn, team: Team, way: str) -> None:
    offer(signed_in, team, "bob")
    bob = signed_in("bob")
    if way == "left":
        bob.post("/o/acme/team/leave")
    else:
        team.post(signed_in("carol"), "bob", "remove")
    assert bob.post("/o/acme/transfer/accept").location == "/orgs"
    assert (acme(team).owner_id, acme(team).transfer_to) == (team.cast.people["alice"], None)


def test_an_offer_survives_a_change_of_role(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "carol")
    team.post(signed_in("alice"), "carol", "role", role="member")
    assert signed_in("carol").post("/o/acme/transfer/accept").status_code == 303
    assert team.row("carol").role is MembershipRole.ADMIN


def test_the_log_says_who_handed_what_to_whom(signed_in: SignedIn, team: Team) -> None:
    offer(signed_in, team, "bob")
    signed_in("bob").post("/o/acme/transfer/accept")
    people = team.cast.people
    with team.database.reading() as session:
        offered, accepted = session.query(Event).order_by(Event.id)
        assert (offered.actor_id, offered.data) == (people["alice"], {"user_id": people["bob"]})
        assert (accepted.actor_id, accepted.data) == (people["bob"], {"old": people["alice"], "new": people["bob"]})
        assert session.query(Membership).filter_by(org_id=team.cast.org_id, state="active").count() == 3


def test_someone_alone_has_nobody_to_offer_it_to(signed_in: SignedIn) -> None:
    mallory = signed_in("mallory")
    mallory.post("/orgs/new", data={"name": "Solo"})
    page = mallory.get("/o/solo/settings").text
    assert "first invite the person" in page
    assert not re.search(r'name="user_id"', page)
