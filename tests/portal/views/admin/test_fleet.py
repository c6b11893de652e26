"""Tests of the fleet page: filters in the URL, order, saved views, actions for many bots, export."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from portal.database import Database
from portal.models import Bot, BotLabel, BotState, Channel, Event, EventTag, Node, SavedView, UpdateState, utcnow
from portal.services.bots import fleet_search
from portal.services.bots.fleet_search import FleetFilter, FleetOrder
from tests import factories
from tests.support.cast import SignedIn
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.requests

ACTIONS = "/admin/fleet/actions"
FRAGMENT = {"HX-Request": "true"}


def act(signed_in: SignedIn, scene: Scene, **data: object) -> tuple[int, str]:
    """Submit an action for the first two bots, and return the status and the page that follows."""
    root = signed_in("root")
    answer = root.post(f"{ACTIONS}?q=paper&sort=-name", data={"bots": scene.bots[:2], **data})
    if answer.status_code == 303:
        assert answer.location == "/admin/fleet?q=paper&sort=-name"
        return 303, root.get(answer.location).text
    return answer.status_code, answer.text


def test_filters_and_order_are_in_the_url(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        first = session.get_one(Bot, scene.bots[0])
        first.release_channel, first.current_digest = Channel.CANARY, scene.new_digest
        session.add(BotLabel(bot_id=scene.bots[1], label="pilot"))
        node = session.get_one(Node, scene.node).name
    for query, shown in {
        "channel=canary": [1],
        "label=pilot": [2],
        "label=other": [],
        f"node={node}": [1, 2, 3],
        "org=acme&channel=stable": [2, 3],
        f"release={scene.new}": [1],
        "release=unknown": [],
        f"image={factories.IMAGE}&show=outdated": [2, 3],
        "sort=-name": [3, 2, 1],
        "sort=version": [2, 3, 1],
        "sort=-version": [1, 2, 3],
        "sort=nonsense&channel=nonsense": [1, 2, 3],
    }.items():
        answer = root.get(f"/admin/fleet?part=bots&{query}", headers=FRAGMENT)
        page = answer.text
        # Also a search without a reload can be shared, exported and saved.
        own = "" if "nonsense" in query else f"?{query}"
        assert sorted(parse_qs(urlsplit(answer.headers["HX-Replace-Url"]).query)) == sorted(parse_qs(own[1:]))
        assert f"/admin/fleet/bots.csv{'?' if own else ''}" in page
        positions = {number: page.find(f">Paperclip {number}</a>") for number in (1, 2, 3)}
        found = sorted((number for number in positions if positions[number] >= 0), key=lambda n: positions[n])
        assert found == shown, query


@pytest.mark.every_database
def test_every_order_lists_every_bot_in_both_directions(scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.UPDATED, UpdateState.SKIPPED])
        session.get_one(Bot, scene.bots[2]).current_digest = None
        for order in FleetOrder:
            up, down = (
                [
                    row.bot.id
                    for row in fleet_search.list_all(session, FleetFilter(order=order, descending=down), utcnow())
                ]
                for down in (False, True)
            )
            assert sorted(up) == sorted(down) == sorted(scene.bots)
            if order is FleetOrder.UPDATE:
                assert (up[-1], down[0]) == (scene.bots[0], scene.bots[0])
            if order is FleetOrder.VERSION:
                assert (up[0], down[-1]) == (scene.bots[2], scene.bots[2])


def test_bots_are_moved_to_a_channel(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    status, page = act(signed_in, scene, action="channel", to_channel="canary")
    assert (status, "2 bots moved." in page) == (303, True)
    status, page = act(signed_in, scene, action="channel", to_channel="weekly")
    assert (status, "Choose a channel." in page) == (422, True)
    with database.reading() as session:
        channels = {bot.id: bot.release_channel for bot in session.query(Bot)}
        assert session.query(Event).filter_by(tag=EventTag.BOT_CHANNEL_CHANGED).count() == 2
    assert channels == dict(zip(scene.bots, (Channel.CANARY, Channel.CANARY, Channel.STABLE), strict=True))


def test_updates_are_held_and_released(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    day = (utcnow() + timedelta(days=3)).date()
    status, page = act(signed_in, scene, action="hold", until="soon", reason="audit")
    assert status == 422
    # The page keeps what was entered and selected.
    assert "Choose a date." in page
    assert 'value="audit"' in page
    assert page.count(" checked aria-label") == 2
    _, page = act(signed_in, scene, action="hold", until=str(day), reason="audit")
    assert "Updates of 2 bots are on hold." in page
    assert page.count(f"{day}</span>") == 2
    assert ">1 bot<" in signed_in("root").get("/admin/fleet?show=outdated").text
    _, page = act(signed_in, scene, action="end_hold")
    assert "Updates of 2 bots are no longer on hold." in page
    status, page = act(signed_in, scene, action="end_hold")
    assert (status, page.count("are not held.")) == (303, 2)


def test_labels_are_added_and_removed(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    _, page = act(signed_in, scene, action="label", with_label="Pilot")
    assert "Label added to 2 bots." in page
    status, page = act(signed_in, scene, action="label", with_label="no label")
    assert (status, "Use letters, digits" in page) == (422, True)
    _, page = act(signed_in, scene, action="unlabel", with_label="pilot")
    assert "Label removed from 2 bots." in page


def test_one_refused_restart_does_not_stop_the_others(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.RUNNING])
    status, page = act(signed_in, scene, action="restart")
    assert status == 303
    assert "Restarting 1 bot." in page
    assert "Paperclip 1 is being updated." in page
    with database.reading() as session:
        requested = {bot.id: bot.restart_requested_at is not None for bot in session.query(Bot)}
    assert [requested[bot_id] for bot_id in scene.bots] == [False, True, False]


def test_roll_out_leads_to_the_form_with_the_bots(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    answer = root.post(ACTIONS, data={"action": "roll_out", "bots": scene.bots[:2]})
    query = parse_qs(urlsplit(answer.location).query)
    assert (query["release"], query["audience"]) == ([scene.new], ["named"])
    assert sorted(query["bots"]) == sorted(scene.bots[:2])
    page = root.get(answer.location).text
    assert "Paperclip 1" in page
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).image = "registry.example/acme/other:stable"
    status, page = act(signed_in, scene, action="roll_out")
    assert (status, "follow 2 images" in page) == (422, True)


@pytest.mark.parametrize("action", ["roll_out", "restart", "channel", "hold", "label", "", "drop"])
def test_action_without_bots_changes_nothing(action: str, signed_in: SignedIn, scene: Scene) -> None:
    values = {"to_channel": "canary", "until": "2099-01-01", "reason": "x", "with_label": "x"}
    answer = signed_in("root").post(ACTIONS, data={"action": action, **values})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text


def test_view_is_saved_shown_replaced_and_deleted(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    for query in ("q=paper&sort=-name", "channel=canary"):
        answer = root.post(f"/admin/fleet/views?{query}", data={"name": "My <view>"})
        assert answer.location == f"/admin/fleet?{query}"
    page = root.get("/admin/fleet").text
    assert page.count("My &lt;view&gt;</a>") == 1
    assert 'href="/admin/fleet?channel=canary"' in page
    current = 'href="/admin/fleet?channel=canary" aria-current="page"'
    assert current not in page
    assert current in root.get("/admin/fleet?channel=canary").text
    for name, query in (("", "q=a"), ("x" * 61, "q=a"), ("all", "")):
        root.post(f"/admin/fleet/views?{query}", data={"name": name})
    with database.reading() as session:
        view_id = session.query(SavedView).one().id
    root.post(f"/admin/fleet/views/{view_id}/delete")
    with database.reading() as session:
        assert session.query(SavedView).count() == 0
        assert session.query(Event).filter(Event.tag.startswith("view.")).count() == 3


def test_export_contains_what_the_page_lists(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        formula = session.get_one(Bot, scene.bots[1])
        formula.name, formula.state = '=HYPERLINK("http://x")', BotState.STOPPED
        session.add(BotLabel(bot_id=formula.id, label="pilot"))
    answer = signed_in("root").get("/admin/fleet/bots.csv?show=stopped")
    assert answer.mimetype == "text/csv"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["id"], row["version"], row["available"], row["labels"]) == (
        *(scene.bots[1], "1.4.0"),
        *("1.5.0", "pilot"),
    )
    # A spreadsheet shows the text and does not run it.
    assert row["bot"] == '\'=HYPERLINK("http://x")'
