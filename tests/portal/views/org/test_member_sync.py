"""What the team page and the bot page show of the member sync, how the team page refreshes it, and the retry."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import (
    Bot,
    BotState,
    BotSync,
    DesiredState,
    Membership,
    MembershipState,
    MemberSync,
    SyncRole,
    SyncState,
    User,
    utcnow,
)
from portal.services.orgs import member_sync
from tests import factories
from tests.support import sync_rows
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

ERROR = "HTTP 401 from 10.0.0.7:20001"
BLOCKED: dict[str, Any] = {
    "state": SyncState.BLOCKED,
    "attempts": 3,
    "last_error": ERROR,
    "next_attempt_at": utcnow(),
}

AddRow = Callable[..., str]


@pytest.fixture
def add_row(database: Database, cast: Cast, scene: Scene) -> AddRow:
    """Return a function that adds a row of a person in the bot of that number, and returns its id."""

    def add(name: str, bot: int = 0, role: SyncRole = SyncRole.MEMBER, **values: Any) -> str:
        with database.transaction() as session:
            row = session.get_one(Bot, scene.bots[bot])
            sync_rows.connect(session, row)
            return sync_rows.pending(session, row, cast.people[name], role, **values).id

    return add


@pytest.fixture
def htmx(cast: Cast) -> dict[str, str]:
    """Headers that htmx sends from a page of Acme."""
    return {"HX-Request": "true", "X-Tenant-Id": cast.org_id}


def membership_id(database: Database, cast: Cast, name: str) -> str:
    """Return the id of a membership of Acme."""
    with database.reading() as session:
        found = session.query(Membership.id).filter_by(org_id=cast.org_id, user_id=cast.people[name])
        return str(found.scalar())


def read_cell(client: FlaskClient, name: str) -> str:
    """Return the text of the cell with the sync of a member, with single spaces and without tags."""
    page = client.get(f"/o/acme/team?q={name}").text
    found = re.search(r'data-label="In the bot">(.*?)</td>', page, re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def test_single_bot_is_shown_inline_in_words_for_customers(signed_in: SignedIn, add_row: AddRow) -> None:
    add_row("bob", **BLOCKED)
    add_row("carol")
    alice = signed_in("alice")
    bob = read_cell(alice, "bob")
    assert "blocked for less than 1 min The bot refused this. Your provider is informed. Retry now" in bob
    assert read_cell(alice, "carol") == "provisioning for less than 1 min"
    assert ERROR not in alice.get("/o/acme/team").text


@pytest.mark.every_database
def test_several_bots_are_in_a_disclosure(signed_in: SignedIn, add_row: AddRow, scene: Scene) -> None:
    add_row("bob", 0, observed_epoch=1, observed_role=SyncRole.MEMBER, state=SyncState.SYNCED)
    add_row("bob", 1, **BLOCKED)
    cell = read_cell(signed_in("alice"), "bob")
    assert cell.startswith("blocked for less than 1 min · 1 of 2 bots Paperclip 1 synced Paperclip 2 blocked")
    page = signed_in("alice").get("/o/acme/team?q=bob").text
    assert page.count("<details id=") == 1


def test_bots_that_get_no_members_are_named_so(
    signed_in: SignedIn, database: Database, scene: Scene, cast: Cast
) -> None:
    with database.transaction() as session:
        sync_rows.pending(session, session.get_one(Bot, scene.bots[0]), cast.people["bob"], **BLOCKED)
    assert read_cell(signed_in("alice"), "bob") == "managed in the bot"
    assert read_cell(signed_in("alice"), "carol") == "no bot"


@pytest.mark.parametrize(("name", "may_retry"), [("alice", True), ("carol", True), ("bob", False), ("root", False)])
def test_only_those_who_manage_the_team_see_the_retry(
    signed_in: SignedIn, add_row: AddRow, name: str, may_retry: bool
) -> None:
    row_id = add_row("bob", **BLOCKED)
    assert (f"/o/acme/team/sync/{row_id}/retry" in signed_in(name).get("/o/acme/team").text) == may_retry


@pytest.mark.every_database
def test_retry_makes_the_call_due_and_enqueues_a_job(
    signed_in: SignedIn, add_row: AddRow, database: Database, htmx: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[str] = []
    monkeypatch.setattr(member_sync, "request_job", lambda _session, node_id: requested.append(node_id))
    row_id = add_row("bob", **BLOCKED)
    with database.transaction() as session:
        bot_id = session.get_one(MemberSync, row_id).bot_id
        session.get_one(BotSync, bot_id).next_attempt_at = utcnow()
    answer = signed_in("carol").post(f"/o/acme/team/sync/{row_id}/retry", headers=htmx)
    assert (answer.status_code, answer.text) == (200, "")
    assert {"members:changed", "Trying again now."} <= set(answer.headers["HX-Trigger"].split('"'))
    with database.reading() as session:
        assert session.get_one(MemberSync, row_id).next_attempt_at is None
        assert session.get_one(BotSync, bot_id).next_attempt_at is None, "people are sent after provisioning"
    assert len(requested) == 1
    assert signed_in("carol").post(f"/o/acme/team/sync/{row_id}/retry").location == "/o/acme/team"


def test_row_of_another_organization_is_not_found(
    signed_in: SignedIn, add_row: AddRow, database: Database, scene: Scene, cast: Cast
) -> None:
    with database.transaction() as session:
        row_id = add_row("bob", **BLOCKED)
        other = factories.org(session, session.get_one(User, cast.people["mallory"]), "other")
        session.get_one(Bot, scene.bots[0]).org_id = other.id
    assert signed_in("alice").post(f"/o/acme/team/sync/{row_id}/retry").status_code == 404
    with database.reading() as session:
        assert session.get_one(MemberSync, row_id).next_attempt_at is not None


def test_refresh_replaces_the_states_of_the_shown_members_and_no_form_for_roles(
    signed_in: SignedIn, add_row: AddRow, database: Database, cast: Cast, htmx: dict[str, str]
) -> None:
    row_id = add_row("bob")
    add_row("carol")
    bob = membership_id(database, cast, "bob")
    alice = signed_in("alice")
    url = f"/o/acme/team/sync?part=updates&member={bob}&member=nothing"
    first = alice.get(url, headers=htmx)
    assert re.findall(r'id="(sync-\w+)"[^>]*hx-swap-oob="true"', first.text) == [f"sync-{bob}"]
    assert 'name="role"' not in first.text
    assert 'hx-trigger="every 3s' in first.text

    version = re.search(r"version=(\w+)", first.text)
    assert version
    assert alice.get(f"{url}&version={version[1]}", headers=htmx).status_code == 204
    with database.transaction() as session:
        row = session.get_one(MemberSync, row_id)
        row.state, row.observed_role, row.observed_epoch = SyncState.SYNCED, SyncRole.MEMBER, 1
    second = alice.get(f"{url}&version={version[1]}", headers=htmx)
    assert (second.status_code, "synced" in second.text) == (200, True)
    assert 'hx-trigger="every 15s' in second.text, "slower while nothing is pending"


def test_refresh_names_no_members_of_other_organizations(
    signed_in: SignedIn, add_row: AddRow, database: Database, cast: Cast, htmx: dict[str, str]
) -> None:
    with database.transaction() as session:
        other = factories.org(session, session.get_one(User, cast.people["mallory"]), "other")
        foreign = factories.membership(session, other, factories.user(session, "secret")).id
    answer = signed_in("bob").get(f"/o/acme/team/sync?part=updates&member={foreign}", headers=htmx)
    assert foreign not in answer.text
    assert signed_in("bob").get("/o/acme/team/sync").location == "/o/acme/team"
    assert signed_in("bob").get("/o/acme/team/sync?part=x", headers=htmx).headers["HX-Redirect"] == "/o/acme/team"


@pytest.mark.every_database
def test_removed_member_whom_a_bot_may_still_know_is_listed_separately(
    signed_in: SignedIn, add_row: AddRow, database: Database, cast: Cast, scene: Scene
) -> None:
    known = {"observed_role": SyncRole.MEMBER, "observed_version": 1, "observed_epoch": 1, "desired_version": 2}
    row_id = add_row("bob", 0, SyncRole.NONE, **known)
    with database.transaction() as session:
        session.query(Membership).filter_by(user_id=cast.people["bob"]).one().state = MembershipState.REMOVED
        bot = session.get_one(Bot, scene.bots[0])
        bot.desired_state, bot.state = DesiredState.STOPPED, BotState.STOPPED
    for name in ("alice", "carol", "root"):
        page = signed_in(name).get("/o/acme/team").text
        assert "Access still ending" in page
        assert "can no longer open a bot" in page
        assert "The bot is stopped. The removal follows when the bot runs." in page
        assert "Access ended this week" not in page

    with database.transaction() as session:
        row = session.get_one(MemberSync, row_id)
        row.state, row.observed_role, row.observed_version = SyncState.SYNCED, SyncRole.NONE, 2
    page = signed_in("alice").get("/o/acme/team").text
    assert "Access still ending" not in page
    assert "Access ended this week" in page
    assert "bob@example.com" in page


def test_members_do_not_see_removed_people(
    signed_in: SignedIn, add_row: AddRow, database: Database, cast: Cast, htmx: dict[str, str]
) -> None:
    add_row("carol", 0, SyncRole.NONE, desired_version=2)
    with database.transaction() as session:
        session.query(Membership).filter_by(user_id=cast.people["carol"]).one().state = MembershipState.REMOVED
    bob = signed_in("bob")
    for answer in (bob.get("/o/acme/team"), bob.get("/o/acme/team/sync?part=updates", headers=htmx)):
        assert answer.status_code == 200
        assert "carol@example.com" not in answer.text
    assert "carol@example.com" in signed_in("alice").get("/o/acme/team").text


@pytest.mark.every_database
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "managed in the bot"),
        ({"state": SyncState.SYNCED, "observed_epoch": 1}, "in sync"),
        ({}, "pending 1 change pending Team"),
        (BLOCKED, "blocked 1 change pending Team Your provider is informed."),
    ],
)
def test_bot_page_shows_the_state_of_its_members(
    signed_in: SignedIn, add_row: AddRow, scene: Scene, values: dict[str, Any] | None, words: str
) -> None:
    if values is not None:
        add_row("bob", **values)
    page = signed_in("bob").get(f"/o/acme/bots/{scene.bots[0]}").text
    found = re.search(r"<dt>Members</dt><dd>(.*?)</dd>", page, re.DOTALL)
    assert found
    assert " ".join(re.sub(r"<[^>]+>", " ", found[1]).split()) == words
    assert ERROR not in page
