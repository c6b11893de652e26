"""Operators' pages about the member sync: list, filters, one bot, retry, resync, removals, overview, users, orgs."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, BotSync, Event, Membership, MembershipState, MemberSync, SyncRole, SyncState, utcnow
from tests.support import sync_rows
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

ERROR = "HTTP 401: the bot refuses the secret"
BLOCKED: dict[str, Any] = {
    "state": SyncState.BLOCKED,
    "attempts": 3,
    "last_error": ERROR,
    "next_attempt_at": utcnow(),
}
HTMX = {"HX-Request": "true"}


@pytest.fixture
def root(signed_in: SignedIn) -> FlaskClient:
    """A browser in which the operator is signed in."""
    return signed_in("root")


@pytest.fixture
def rows(database: Database, cast: Cast, scene: Scene) -> dict[str, str]:
    """Rows of Bob, who is blocked, and of Carol, who is synced, in the first of three bots. Return ids by name."""
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        sync_rows.connect(session, bot)
        sync_rows.connect(session, session.get_one(Bot, scene.bots[1]))
        return {
            "bob": sync_rows.pending(session, bot, cast.people["bob"], **BLOCKED).id,
            "carol": sync_rows.observed(session, bot, cast.people["carol"], SyncRole.ADMIN).id,
        }


def read_text(client: FlaskClient, path: str) -> str:
    """Return the text of a page with single spaces and without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", client.get(path).text).split())


def test_list_shows_numbers_and_errors_of_each_bot(root: FlaskClient, rows: dict[str, str]) -> None:
    text = read_text(root, "/admin/sync")
    assert "3 all 1 blocked 0 pending 0 waiting 1 synced 1 not connected" in text
    assert re.search(rf"Paperclip 1 Acme {ERROR} blocked for less than 1 min 1 of 2 3 managed 0 north", text)
    assert text.index("Paperclip 1") < text.index("Paperclip 2") < text.index("Paperclip 3")


@pytest.mark.parametrize(
    ("query", "bots"),
    [
        ("state=blocked", ["Paperclip 1"]),
        ("state=synced", ["Paperclip 2"]),
        ("state=nonsense&page=-1", ["Paperclip 1", "Paperclip 2", "Paperclip 3"]),
        ("q=secret", ["Paperclip 1"]),
        ("org=acme&q=clip+3", ["Paperclip 3"]),
        ("org=nothing", []),
        ("node=nothing", []),
    ],
)
def test_list_is_filtered(root: FlaskClient, rows: dict[str, str], query: str, bots: list[str]) -> None:
    page = root.get(f"/admin/sync?{query}").text
    assert re.findall(r'<a id="sync-\w+"[^>]*>([^<]*)</a>', page) == bots
    assert ("No matching bots" in page) == (not bots)


def test_list_refreshes_with_its_filters(root: FlaskClient, rows: dict[str, str]) -> None:
    fragment = root.get("/admin/sync?part=syncs&q=clip&state=blocked&org=acme", headers=HTMX).text
    assert fragment.lstrip().startswith('<div id="syncs"')
    found = re.search(r'hx-get="([^"]*)"', fragment)
    assert found
    url = found[1].replace("&amp;", "&")
    assert {"q=clip", "state=blocked", "org=acme"} <= set(url.partition("?")[2].split("&"))
    assert root.get(url, headers=HTMX).status_code == 204


def test_page_of_a_bot_shows_desired_against_observed(
    root: FlaskClient, rows: dict[str, str], scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        session.get_one(BotSync, scene.bots[0]).unanswered_calls = 4
    text = read_text(root, f"/admin/sync/{scene.bots[0]}")
    assert "Members 1 of 2 in the bot, 1 blocked" in text
    assert "Unanswered calls 4" in text
    assert re.search(rf"Bob bob@example.com {ERROR} blocked for less than 1 min member v1 nothing yet 3", text)
    assert "Carol carol@example.com synced admin v2 admin v2 0" in text
    assert "Allow removals" not in text
    off = read_text(root, f"/admin/sync/{scene.bots[2]}")
    assert "not connected" in off
    assert "flotilla bots provision" in off
    assert "Fix the cause, then retry." in text
    assert "Retry all" not in off, "no button leads to an error"


def test_retries_make_failed_calls_due(
    root: FlaskClient, rows: dict[str, str], database: Database, scene: Scene
) -> None:
    for path in (f"{scene.bots[0]}/people/{rows['bob']}/retry", f"{scene.bots[0]}/retry", "retry-all"):
        with database.transaction() as session:
            session.get_one(MemberSync, rows["bob"]).next_attempt_at = utcnow()
        answer = root.post(f"/admin/sync/{path}")
        assert answer.status_code == 303
        assert root.get(answer.location).status_code == 200
        with database.reading() as session:
            assert session.get_one(MemberSync, rows["bob"]).next_attempt_at is None
    assert root.post(f"/admin/sync/{scene.bots[1]}/people/{rows['bob']}/retry").status_code == 404


def test_resync_begins_a_new_epoch(
    root: FlaskClient, rows: dict[str, str], database: Database, scene: Scene, cast: Cast
) -> None:
    assert root.post(f"/admin/sync/{scene.bots[0]}/resync").status_code == 303
    with database.reading() as session:
        assert session.get_one(Bot, scene.bots[0]).epoch == 2
        event = session.query(Event).filter_by(tag="sync.requested").one()
        assert (event.actor_id, event.bot_id) == (cast.people["root"], scene.bots[0])
    assert "0 of 2 in the bot" in read_text(root, f"/admin/sync/{scene.bots[0]}")


def test_refused_removals_are_allowed_by_an_operator(
    root: FlaskClient, rows: dict[str, str], database: Database, scene: Scene
) -> None:
    with database.transaction() as session:
        session.get_one(BotSync, scene.bots[1]).refused_removals = 7
    assert "7 removals refused: too many at once." in read_text(root, "/admin/sync?state=blocked")
    assert "The bot lists 7 people whom Flotilla does not know." in read_text(root, f"/admin/sync/{scene.bots[1]}")
    assert root.post(f"/admin/sync/{scene.bots[1]}/allow-removals").status_code == 303
    with database.reading() as session:
        assert session.get_one(BotSync, scene.bots[1]).allowed_removals == 7
    assert "Their removal is allowed" in read_text(root, f"/admin/sync/{scene.bots[1]}")
    assert "Allow removals" not in read_text(root, f"/admin/sync/{scene.bots[1]}")


def test_more_unknown_people_than_were_allowed_need_another_decision(
    root: FlaskClient, rows: dict[str, str], database: Database, scene: Scene
) -> None:
    path = f"/admin/sync/{scene.bots[1]}"
    with database.transaction() as session:
        session.get_one(BotSync, scene.bots[1]).refused_removals = 4
    root.post(f"{path}/allow-removals")
    with database.transaction() as session:  # as a comparison that finds one more
        session.get_one(BotSync, scene.bots[1]).refused_removals = 5
    text = read_text(root, path)
    assert "The bot lists 5 people whom Flotilla does not know." in text
    assert "Their removal is allowed" not in text
    assert "The next comparison removes 5 people from the bot." in text
    root.post(f"{path}/allow-removals")
    assert "Their removal is allowed" in read_text(root, path)
    assert "Allow removals" not in read_text(root, path)


@pytest.mark.parametrize(
    ("values", "is_confirmed"),
    [
        ({}, True),
        ({"observed_budget_cents": 400}, False),
        ({"observed_per_agent_budget_cents": None}, False),
        ({"observed_budget_epoch": None}, False),
    ],
)
def test_budget_is_confirmed_when_the_bot_has_both_amounts_in_this_epoch(  # noqa: PLR0917 - fixtures come by name
    root: FlaskClient,
    rows: dict[str, str],
    database: Database,
    scene: Scene,
    values: dict[str, int | None],
    is_confirmed: bool,
) -> None:
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        sync_rows.connect(session, bot, budget_cents=500, per_agent_budget_cents=25)
        observed = {"observed_budget_cents": 500, "observed_per_agent_budget_cents": 25, "observed_budget_epoch": 1}
        sync_rows.connect(session, bot, **{**observed, **values})
    text = read_text(root, f"/admin/sync/{scene.bots[0]}")
    assert ("Budget 5.00, 0.25 per agent Last comparison" in text) == is_confirmed
    assert ("Budget 5.00, 0.25 per agent, not confirmed yet" in text) != is_confirmed


def test_overview_counts_blocked_bots(root: FlaskClient, rows: dict[str, str]) -> None:
    page = root.get("/admin/").text
    assert "All clear." not in page
    assert "Member sync of 1 bot" in read_text(root, "/admin/")
    assert 'href="/admin/sync?state=blocked"' in page


def test_pages_of_a_user_and_of_an_organization_show_the_state(
    root: FlaskClient, rows: dict[str, str], database: Database, cast: Cast
) -> None:
    assert "Paperclip 1 blocked" in read_text(root, f"/admin/users/{cast.people['bob']}")
    org = read_text(root, f"/admin/orgs/{cast.org_id}")
    assert "Paperclip 1 blocked 1 pending Paperclip 2 synced Paperclip 3 not connected" in org
    with database.transaction() as session:
        session.query(Membership).filter_by(user_id=cast.people["bob"]).one().state = MembershipState.REMOVED
    assert "Access still ending" in read_text(root, f"/admin/users/{cast.people['bob']}")
