"""The team page: list of members, roles, removal, leaving, and the pages of removed members."""

import re
from collections.abc import Mapping

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import (
    Event,
    Invite,
    InviteState,
    Membership,
    MembershipRole,
    MembershipState,
    MemberSync,
    Org,
    OutgoingMail,
    SyncRole,
    User,
    utcnow,
)
from portal.services.orgs import memberships, orgs
from tests import factories
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

HTMX = {"HX-Request": "true"}
NAMES = ("Alice", "Bob", "Carol")


class Team:
    """The memberships of Acme, read from the database and changed through pages."""

    def __init__(self, database: Database, cast: Cast) -> None:
        """Use the organization of the cast."""
        self.database = database
        self.cast = cast

    def row(self, name: str) -> Membership:
        """Read the current membership row of a user."""
        with self.database.reading() as session:
            return session.query(Membership).filter_by(org_id=self.cast.org_id, user_id=self.cast.people[name]).one()

    def role(self, name: str) -> str | None:
        """Read the stored role of a user; None for a removed member."""
        row = self.row(name)
        return str(row.role) if row.state is MembershipState.ACTIVE else None

    def post(self, client: FlaskClient, name: str, verb: str, **data: object) -> tuple[int, str]:
        """Submit a form about a member with the current version, and return status and text."""
        answer = self.send(client, name, verb, {}, **data)
        return answer.status_code, answer.text

    def send(
        self, client: FlaskClient, name: str, verb: str, headers: Mapping[str, str], **data: object
    ) -> TestResponse:
        """Submit a form about a member with the current version and these headers, and return the response."""
        row = self.row(name)
        form = {"version": row.version, **data}
        return client.post(f"/o/acme/team/{row.id}/{verb}", data=form, headers=dict(headers))

    def tags(self) -> list[str]:
        """Return the tags of events about the team, the oldest first."""
        with self.database.reading() as session:
            tags = [event.tag for event in session.query(Event).order_by(Event.id)]
        return [tag for tag in tags if not tag.startswith(("access.", "bot."))]

    def desired_roles(self, name: str) -> set[tuple[SyncRole, int]]:
        """Read the desired roles of a user in the bots, with their versions."""
        with self.database.reading() as session:
            rows = session.query(MemberSync).filter_by(user_id=self.cast.people[name])
            return {(row.desired_role, row.desired_version) for row in rows}


@pytest.fixture
def team(database: Database, cast: Cast) -> Team:
    """The memberships of Acme."""
    return Team(database, cast)


def listed(client: FlaskClient, query: str = "") -> list[str]:
    """Return the names on the team page, in order."""
    return re.findall(r"<strong>([^<]*)</strong>", client.get(f"/o/acme/team{query}").text)


def test_members_see_the_list_and_only_managers_see_controls(signed_in: SignedIn) -> None:
    for name in ("alice", "carol", "bob", "root"):
        client = signed_in(name)
        assert listed(client) == ["Alice", "Bob", "Carol"]
        page = client.get("/o/acme/team").text
        assert "bob@example.com" in page
        assert ("Remove Bob" in page, 'name="role"' in page) == (name in {"alice", "carol"},) * 2
        assert ("/o/acme/team/leave" in page) == (name in {"carol", "bob"})
    # There is no button to remove the owner or oneself.
    page = signed_in("carol").get("/o/acme/team").text
    assert "Remove Alice" not in page
    assert "Remove Carol" not in page


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?q=BOB", ["Bob"]),
        ("?q=carol@", ["Carol"]),
        ("?q=%25", []),
        ("?q=nobody", []),
        ("?page=9", ["Alice", "Bob", "Carol"]),
    ],
)
def test_list_can_be_searched_by_name_and_email(signed_in: SignedIn, query: str, names: list[str]) -> None:
    assert listed(signed_in("bob"), query) == names
    fragment = signed_in("bob").get(f"/o/acme/team{query}&part=members", headers=HTMX).text
    assert fragment.lstrip().startswith('<section id="members"')
    assert re.findall(r"<strong>([^<]*)</strong>", fragment) == names


@pytest.mark.every_database
@pytest.mark.parametrize("typed", ["özil", "ÖZIL", "élodie"])
def test_search_ignores_case_of_non_ascii_letters(
    signed_in: SignedIn, database: Database, cast: Cast, typed: str
) -> None:
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).name = "Élodie Özil"
    assert listed(signed_in("alice"), f"?q={typed}") == ["Élodie Özil"]
    assert "1 user" in signed_in("root").get(f"/admin/users?q={typed}").text


@pytest.mark.every_database
def test_long_list_has_pages_in_a_stable_order(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        org = orgs.lock_org(session, session.get_one(Org, cast.org_id))
        alice = session.get_one(User, cast.people["alice"])
        for number in range(57):
            person = factories.user(session, f"p{number}")
            person.name = f"Same {number % 3}"
            memberships.add_member(session, org, person, MembershipRole.MEMBER, actor=alice, now=utcnow())
    bob = signed_in("bob")
    seen = [
        address
        for page in (1, 2, 3)
        for address in re.findall(r">(\w+@example.com)<", bob.get(f"/o/acme/team?page={page}").text)
    ]
    assert len(seen) == len(set(seen)) == 60
    assert "page 2 of 3" in bob.get("/o/acme/team?page=2").text
    assert "60 people" in bob.get("/o/acme/team").text


@pytest.mark.every_database
def test_role_change_takes_effect_at_once_and_is_recorded(signed_in: SignedIn, team: Team, scene: Scene) -> None:
    alice, bob = signed_in("alice"), signed_in("bob")
    assert team.post(alice, "bob", "role", role="admin")[0] == 303
    assert team.role("bob") == "admin"
    assert team.desired_roles("bob") == {(SyncRole.ADMIN, 1)}
    # The next request of an existing session has the new rights.
    assert bob.get("/o/acme/settings").status_code == 200
    assert team.post(alice, "bob", "role", role="member")[0] == 303
    assert bob.get("/o/acme/settings").status_code == 403
    assert team.desired_roles("bob") == {(SyncRole.MEMBER, 2)}
    with team.database.reading() as session:
        first, second = session.query(Event).filter_by(tag="member.role_changed").order_by(Event.id)
        assert (first.actor_id, first.data["user_id"]) == (team.cast.people["alice"], team.cast.people["bob"])
        assert [(event.data["old"], event.data["new"]) for event in (first, second)] == [
            ("member", "admin"),
            ("admin", "member"),
        ]


def test_htmx_gets_the_row_alone(signed_in: SignedIn, team: Team) -> None:
    answer = team.send(signed_in("carol"), "bob", "role", HTMX, role="admin")
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith(f'<tr id="member-{team.row("bob").id}"')
    assert '<option value="admin" selected>' in answer.text
    assert "Bob is now an admin" in answer.headers["HX-Trigger"]


def test_role_select_offers_to_save_only_the_current_role_of_each_member(signed_in: SignedIn, team: Team) -> None:
    team.post(signed_in("alice"), "bob", "role", role="admin")
    page = signed_in("carol").get("/o/acme/team").text
    rows = {name: re.search(rf"<tr [^>]*>\s*<td[^>]*>\s*<strong>{name}.*?</tr>", page, re.DOTALL) for name in NAMES}
    selected = {
        name: re.findall(r'<option value="(\w+)" selected>', row[0]) for name, row in rows.items() if row is not None
    }
    # The owner's row has no select, because none of its options is the owner's role.
    assert selected == {"Alice": [], "Bob": ["admin"], "Carol": ["admin"]}
    assert rows["Alice"] is not None
    assert 'name="role"' not in rows["Alice"][0]
    assert "Owner" in rows["Alice"][0]
    assert page.count('autocomplete="off"') >= 2, "a browser must not restore an unsaved choice"


def test_unchanged_role_is_not_recorded(signed_in: SignedIn, team: Team) -> None:
    before = team.row("bob").version
    assert team.post(signed_in("alice"), "bob", "role", role="member")[0] == 303
    assert (team.tags(), team.row("bob").version) == ([], before)


@pytest.mark.parametrize("role", ["owner", "operator", "", "ADMIN"])
def test_role_that_cannot_be_assigned_is_refused(signed_in: SignedIn, team: Team, role: str) -> None:
    assert team.post(signed_in("alice"), "bob", "role", role=role)[0] == 422
    assert team.role("bob") == "member"


@pytest.mark.parametrize(("verb", "data"), [("role", {"role": "member"}), ("remove", {})])
def test_membership_of_the_owner_cannot_be_changed(
    signed_in: SignedIn, team: Team, verb: str, data: dict[str, str]
) -> None:
    for name in ("carol", "alice"):
        assert team.post(signed_in(name), "alice", verb, **data)[0] == 403
    assert team.role("alice") == "admin"
    assert team.tags() == []


@pytest.mark.parametrize(("verb", "data"), [("role", {"role": "admin"}), ("remove", {})])
def test_form_with_an_old_version_is_refused_and_shows_the_current_row(
    signed_in: SignedIn, team: Team, verb: str, data: dict[str, str]
) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    old = team.row("bob").version
    team.post(alice, "bob", "role", role="admin")
    team.post(alice, "bob", "role", role="member")
    for headers in (HTMX, {}):
        answer = team.send(carol, "bob", verb, headers, version=old, **data)
        assert answer.status_code == 409
        assert "Another person changed" in answer.text
        assert f'value="{team.row("bob").version}"' in answer.text
    assert team.role("bob") == "member"
    assert team.send(carol, "bob", verb, {}, **data).status_code == 303


def test_admin_can_lower_the_own_role(signed_in: SignedIn, team: Team) -> None:
    carol = signed_in("carol")
    answer = team.send(carol, "carol", "role", HTMX, role="member")
    # The page reloads, because she sees fewer controls now.
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/o/acme/team")
    assert "Remove Bob" not in carol.get("/o/acme/team").text
    assert team.post(carol, "bob", "remove")[0] == 403


@pytest.mark.every_database
def test_removal_asks_for_confirmation_and_takes_effect_at_once(
    signed_in: SignedIn, team: Team, scene: Scene
) -> None:
    carol, bob = signed_in("carol"), signed_in("bob")
    for headers in ({}, HTMX):
        asked = carol.get(f"/o/acme/team/{team.row('bob').id}/remove?part=dialog", headers=headers)
        assert "Remove Bob from Acme?" in asked.text
    assert team.role("bob") == "member"

    answer = team.send(carol, "bob", "remove", HTMX)
    assert (answer.status_code, answer.text) == (200, "")
    assert {"dialog:close", "members:changed", "toast"} <= set(answer.headers["HX-Trigger"].split('"'))
    assert team.desired_roles("bob") == {(SyncRole.NONE, 1)}
    with team.database.reading() as session:
        assert [(mail.to, mail.template) for mail in session.query(OutgoingMail)] == [
            ("bob@example.com", "member_removed")
        ]
    assert listed(carol) == ["Alice", "Carol"]

    # Every next request leads to the list of organizations, which says why.
    page = bob.get("/o/acme/")
    assert (page.status_code, page.location) == (303, "/orgs")
    assert "You were removed from Acme." in bob.get("/orgs").text
    poll = bob.get("/o/acme/?part=bots&version=old", headers=HTMX)
    assert (poll.status_code, poll.headers["HX-Redirect"]) == (204, "/orgs")
    assert bob.post("/o/acme/team/leave").location == "/orgs"
    assert bob.get(f"/o/acme/bots/{scene.bots[0]}").location == "/orgs"
    assert team.tags()[-1] == "member.removed"


@pytest.mark.every_database
def test_return_of_a_member_has_a_newer_version_than_the_removal(
    signed_in: SignedIn, team: Team, database: Database, scene: Scene
) -> None:
    team.post(signed_in("alice"), "bob", "remove")
    removed = team.row("bob")
    with database.transaction() as session:
        org = orgs.lock_org(session, session.get_one(Org, team.cast.org_id))
        bob = session.get_one(User, team.cast.people["bob"])
        memberships.add_member(session, org, bob, MembershipRole.ADMIN, actor=bob, now=utcnow())
    back = team.row("bob")
    assert (back.id, back.role, back.state) == (removed.id, MembershipRole.ADMIN, MembershipState.ACTIVE)
    assert back.version > removed.version
    assert back.joined_at > removed.joined_at
    assert team.desired_roles("bob") == {(SyncRole.ADMIN, 2)}
    assert signed_in("bob").get("/o/acme/").status_code == 200


def test_joining_again_never_lowers_a_role(team: Team, database: Database) -> None:
    with database.transaction() as session:
        org = orgs.lock_org(session, session.get_one(Org, team.cast.org_id))
        for name, role in (("carol", MembershipRole.MEMBER), ("bob", MembershipRole.ADMIN)):
            person = session.get_one(User, team.cast.people[name])
            memberships.add_member(session, org, person, role, actor=person, now=utcnow())
    assert (team.role("carol"), team.role("bob")) == ("admin", "admin")
    assert team.tags() == ["member.role_changed"]


@pytest.mark.every_database
def test_members_can_leave_but_the_owner_cannot(signed_in: SignedIn, team: Team) -> None:
    bob, alice = signed_in("bob"), signed_in("alice")
    assert "Leave Acme?" in bob.get("/o/acme/team/leave").text
    answer = bob.post("/o/acme/team/leave")
    assert answer.location == "/orgs"
    assert "You left Acme." in bob.get("/orgs").text
    assert (team.role("bob"), team.tags()) == (None, ["member.left"])

    assert alice.get("/o/acme/team/leave").status_code == 403
    assert alice.post("/o/acme/team/leave").status_code == 403
    assert team.role("alice") == "admin"


@pytest.mark.every_database
def test_removal_revokes_pending_invites_to_and_from_the_member(
    signed_in: SignedIn, team: Team, database: Database
) -> None:
    with database.transaction() as session:
        acme = session.get_one(Org, team.cast.org_id)
        for address, inviter in (
            ("bob@example.com", "alice"),
            ("a@example.com", "carol"),
            ("b@example.com", "alice"),
        ):
            factories.invite(session, acme, session.get_one(User, team.cast.people[inviter]), address)
    alice = signed_in("alice")
    team.post(alice, "bob", "remove")
    team.post(alice, "carol", "remove")
    with database.reading() as session:
        states = {invite.email: invite.state for invite in session.query(Invite)}
    assert states == {
        "bob@example.com": InviteState.REVOKED,
        "a@example.com": InviteState.REVOKED,
        "b@example.com": InviteState.PENDING,
    }
    assert team.tags().count("invite.revoked") == 2


def test_member_of_another_organization_is_not_found(signed_in: SignedIn, team: Team, database: Database) -> None:
    with database.transaction() as session:
        beta = factories.org(session, session.get_one(User, team.cast.people["alice"]), "beta")
        foreign_id = factories.membership(session, beta, session.get_one(User, team.cast.people["mallory"])).id
    alice = signed_in("alice")
    for verb, data in (("role", {"role": "admin"}), ("remove", {})):
        assert alice.post(f"/o/acme/team/{foreign_id}/{verb}", data={"version": 1, **data}).status_code == 404
    assert alice.get(f"/o/acme/team/{foreign_id}/remove").status_code == 404


def test_number_of_members_stays_current_and_says_when_the_list_is_outdated(
    signed_in: SignedIn, cast: Cast, database: Database
) -> None:
    alice = signed_in("alice")
    ids = re.findall(r'name="member" value="(\w+)"', alice.get("/o/acme/team").text)
    shown = "&".join(f"member={membership_id}" for membership_id in ids)
    url = f"/o/acme/team?part=count&{shown}"
    unchanged = alice.get(url, headers=HTMX).text
    assert ("3 people" in unchanged, "The team has changed." in unchanged) == (True, False)
    with database.transaction() as session:
        factories.membership(session, session.get_one(Org, cast.org_id), factories.user(session, "Dora"))
    outdated = alice.get(url, headers=HTMX).text
    assert ("4 people" in outdated, "The team has changed." in outdated) == (True, True)
    filtered = alice.get("/o/acme/team?part=count&q=dora", headers=HTMX).text
    assert ("1 person" in filtered, "The team has changed." in filtered) == (True, False)
