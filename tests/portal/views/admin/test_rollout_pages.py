"""Tests of the rollout pages: constant cost, paging, filters, versions, choosing bots, reports, starting early."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import (
    Bot,
    BotLabel,
    BotUpdate,
    Channel,
    Event,
    EventTag,
    Org,
    Rollout,
    RolloutState,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
    User,
    utcnow,
)
from portal.services.rollouts import page_versions
from portal.web.extensions import db
from tests import factories
from tests.portal.views.admin.test_rollouts import FRAGMENT, previewed, rollout_form
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, rollout, small_fleet
from tests.support.statements import counted_statements

MIXED = [UpdateState.UPDATED, UpdateState.RUNNING, UpdateState.ROLLED_BACK, UpdateState.PENDING, UpdateState.SKIPPED]
KILOBYTE = 1000


@pytest.mark.slow
def test_pages_cost_the_same_for_any_number_of_bots(
    signed_in: SignedIn, app: Flask, database: Database, cast: Cast
) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        scene = small_fleet(session, session.get_one(Org, cast.org_id), bots=70)
        few = rollout(session, scene, MIXED * 2).id
        many = rollout(session, replace(scene, bots=scene.bots[10:]), MIXED * 12).id
        session.execute(sa.update(BotUpdate).values(log_tail="line\n" * 2000).where(BotUpdate.error.is_not(None)))
    with app.app_context():
        engine = db.engine

    def count(path: str) -> int:
        fragment = "part=" in path
        with counted_statements(engine) as statements:
            answer = root.get(path, headers=FRAGMENT if fragment else {})
        assert answer.status_code == 200, path
        assert len(answer.data) < 100 * KILOBYTE, path
        return len(statements)

    for path in ("", "?part=progress", "?part=updates", "?part=controls", "?part=chart", "/report", "/compare"):
        count(f"/admin/rollouts/{few}{path}")  # The first request also loads what later requests find in caches.
        costs = {f"{name}{path}": count(f"/admin/rollouts/{name}{path}") for name in (few, many)}
        assert len(set(costs.values())) == 1, costs
    for path in ("/admin/rollouts", f"/admin/rollouts/new?release={scene.new}&audience=all"):
        before = count(path)
        with database.transaction() as session:
            factories.rollout(session, session.get_one(Rollout, many).release, state=RolloutState.COMPLETED)
        assert count(path) == before, path


def test_bots_are_paged_and_filtered_by_state_and_text(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        scene = small_fleet(session, session.get_one(Org, cast.org_id), bots=40)
        states = [UpdateState.ROLLED_BACK] + [UpdateState.PENDING] * 39
        url = f"/admin/rollouts/{rollout(session, scene, states).id}"

    first = root.get(url).text
    assert "page 1 of 2" in first
    assert first.index("rolled back</span> 1") < first.index("pending</span> 39")
    assert list_rows(root, f"{url}?page=2") == 15
    assert list_rows(root, f"{url}?show=rolled_back") == 1
    assert list_rows(root, f"{url}?show=pending&page=99") == 14
    assert list_rows(root, f"{url}?show=pending&q=PAPERCLIP+40") == 1
    assert "No matching bots" in root.get(f"{url}?q=%25").text
    assert list_rows(root, f"{url}?show=nonsense") == 25
    # The part that follows the rollout keeps the filters.
    assert f"{url}?show=pending&amp;q=40&amp;part=updates" in root.get(f"{url}?show=pending&q=40").text


def list_rows(root: FlaskClient, url: str) -> int:
    """Count the bots that a page lists."""
    return root.get(url).text.count('data-label="Wave"')


def test_the_log_of_a_container_is_loaded_on_demand(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.ROLLED_BACK, UpdateState.UPDATED])
        other = rollout(session, scene, []).id
        failed = session.scalars(sa.select(BotUpdate.id).where(BotUpdate.state == UpdateState.ROLLED_BACK)).one()
    page = root.get(f"/admin/rollouts/{made.id}").text
    url = f"/admin/rollouts/{made.id}/bots/{failed}/log"
    assert "no such column" not in page
    assert page.count(f'href="{url}"') == 1
    assert "migration 7 failed: no such column" in root.get(url).text
    assert root.get(f"/admin/rollouts/{other}/bots/{failed}/log").status_code == 404


def test_an_unchanged_poll_loads_and_renders_nothing(
    signed_in: SignedIn, scene: Scene, database: Database, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = signed_in("root")
    slot = [0]
    monkeypatch.setattr(page_versions, "_slot", lambda _now: slot[0])
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.RUNNING])
    with app.app_context():
        engine = db.engine
    for page, part in ((f"/admin/rollouts/{made.id}", "progress"), ("/admin/rollouts", "list")):
        fragment = root.get(f"{page}?part={part}", headers=FRAGMENT)
        version = re.search(r"version=(\w+)", fragment.text)
        assert version, page
        url = f"{page}?part={part}&version={version[1]}"
        with counted_statements(engine) as statements:
            assert root.get(url, headers=FRAGMENT).status_code == 204
        assert len(statements) < 10, page
        # Later, only the version of the data is new, so other parts of the page do not refresh.
        slot[0] += 1
        answer = root.get(url, headers=FRAGMENT)
        assert answer.status_code == 200
        assert "HX-Trigger" not in answer.headers


def test_an_operator_starts_the_next_wave_early(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED])
        made.parameters = {**made.parameters, "pause_seconds": 3600}
        session.add(BotUpdate(rollout_id=made.id, bot_id=scene.bots[1]))
    url = f"/admin/rollouts/{made.id}"
    assert 'data-counts="countdown"' in root.get(url).text
    assert f'action="{url}/skip-pause"' in root.get(url).text

    assert root.post(f"{url}/skip-pause").status_code == 303

    assert 'data-counts="countdown"' not in root.get(url).text
    with database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == EventTag.ROLLOUT_HASTENED)).one()
        assert (event.rollout_id, event.data["skipped"]) == (made.id, "the pause between waves")
    root.post(f"{url}/pause")
    assert root.post(f"{url}/skip-pause").status_code == 409


def test_an_operator_ignores_update_hours_of_a_rollout(
    signed_in: SignedIn, scene: Scene, database: Database, cast: Cast
) -> None:
    root = signed_in("root")
    later = (utcnow() + timedelta(hours=5)).hour
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED])
        made.ignore_windows = False
        session.add(BotUpdate(rollout_id=made.id, bot_id=scene.bots[1]))
        session.merge(TenantUpdateConfig(org_id=cast.org_id, mode=TenantMode.AUTO, preferred_hour_utc=later))
    url = f"/admin/rollouts/{made.id}"
    assert f"{later:02}:00 UTC" in root.get(url).text
    assert "Start now…" in root.get(url).text

    assert root.post(f"{url}/ignore-windows").status_code == 303

    assert "Start now…" not in root.get(url).text
    assert "ignoring update hours" in root.get(url).text


def test_bots_are_chosen_by_organization_node_channel_and_one_by_one(
    signed_in: SignedIn, scene: Scene, database: Database, cast: Cast
) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        node = factories.node(session, "two")
        owner = session.get_one(User, cast.people["alice"])
        globex = factories.org(session, owner, slug="globex", name="Globex")
        bot = session.get_one(Bot, scene.bots[2])
        bot.org_id, bot.node_id, bot.release_channel = globex.id, node.id, Channel.CANARY
        node_id = node.id
        session.add_all([BotLabel(bot_id=scene.bots[1], label="beta"), BotLabel(bot_id=bot.id, label="east")])

    def list_taken(**changes: Any) -> list[int]:
        values = rollout_form(scene, strategy="immediate", **changes)
        page = root.post("/admin/rollouts/new/preview?part=outlook", data=values, headers=FRAGMENT).text
        waves = page.partition("Left out")[0]
        return [int(number) for number in re.findall(r"<li>Paperclip (\d) of", waves)]

    assert list_taken() == [1, 2, 3]
    assert list_taken(orgs="globex") == [3]
    assert list_taken(except_orgs="globex,") == [1, 2]
    assert list_taken(nodes=[node_id]) == [3]
    assert list_taken(labels="beta, east") == [2, 3]
    assert list_taken(channels=["canary"]) == [3]
    assert list_taken(channels=["staging"]) == []
    assert list_taken(except_bots=scene.bots[:1]) == [2, 3]
    assert list_taken(audience="named", bots=scene.bots[:2], orgs="globex") == [1, 2]
    refused = root.post("/admin/rollouts/new/preview", data=rollout_form(scene, orgs="acme globex nosuch")).text
    assert "No organization has the URL name “nosuch”" in refused
    unknown = rollout_form(scene, audience="named", bots=["nosuch"])
    assert "not an option any more" in root.post("/admin/rollouts/new/preview", data=unknown).text

    values = previewed(root, rollout_form(scene, except_orgs="globex", except_bots=scene.bots[:1]))
    started = root.post("/admin/rollouts/new", data=values).location.rpartition("/")[2]
    with database.reading() as session:
        assert list(session.scalars(sa.select(BotUpdate.bot_id))) == scene.bots[1:2]
    again = root.get("/admin/rollouts/new", query_string={"repeat": started}).text
    assert 'value="globex"' in again
    assert "1 checked" in again
    assert "<b>1</b> bot" in again


def test_the_preview_names_the_bots_of_waves_and_who_is_left_out(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
    page = signed_in("root").post("/admin/rollouts/new/preview?part=outlook", data=rollout_form(scene)).text
    assert "<li>Paperclip 3 of Acme</li>" in page
    assert "1 bot already up to date" in page
    assert "<li>Paperclip 1 of Acme</li>" in page


def test_what_was_not_previewed_is_not_started(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    values = previewed(root, rollout_form(scene)) | {"percentage": "10"}
    answer = root.post("/admin/rollouts/new", data=values)
    assert answer.status_code == 409
    assert "not in the preview yet" in answer.text
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


def test_chosen_bots_stay_chosen_on_other_pages_of_the_list(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        scene = small_fleet(session, session.get_one(Org, cast.org_id), bots=25)
    chosen = scene.bots[:2]
    values = rollout_form(scene, audience="named", bots=chosen, page="2", q="")
    part = root.post("/admin/rollouts/new/preview?part=choice", data=values, headers=FRAGMENT).text
    assert "page 2 of 2" in part
    for bot in chosen:
        assert re.search(rf'name="bots" value="{bot}"', part)


def test_report_and_comparison_show_outcomes(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        old = rollout(session, scene, [UpdateState.UPDATED])
        old.state, old.ended_at = RolloutState.COMPLETED, utcnow()
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.ROLLED_BACK])
    root.post(f"/admin/rollouts/{made.id}/abort", data={"reason": "logins fail"})

    report = root.get(f"/admin/rollouts/{made.id}/report").text
    assert "1 bot: The new container answered 503" in report
    assert "was aborted: logins fail" in report
    assert "13 s, at most 13 s" in report
    compared = root.get(f"/admin/rollouts/{made.id}/compare?with={old.id}").text
    assert compared.count('<th scope="row">Updated</th>') == 1
    assert "aborted" in compared
    assert "completed" in compared
    assert "Nothing to compare" in root.get(f"/admin/rollouts/{made.id}/compare?with=nosuch").text
