"""Rollouts: starting with the outlook in sight, refusals, the live page, and its buttons."""

import re
from typing import Any

import pytest
from flask import Flask

from portal.database import Database
from portal.models import BotUpdate, Org, Release, Rollout, RolloutState, UpdateState, move, utcnow
from portal.services import fleet_settings
from portal.web.extensions import db
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, rollout, small_fleet
from tests.support.statements import counted_statements

FRAGMENT = {"HX-Request": "true"}


def wishes(scene: Scene, **others: Any) -> dict[str, Any]:
    """What the form sends for a rollout to everybody."""
    wanted = {
        "release": scene.new,
        "strategy": "rolling_wave",
        "canary": "1",
        "percentage": "50",
        "pause_seconds": "0",
        "failure_threshold": "3",
        "max_retries": "2",
        "audience": "all",
        "ignore_windows": "y",
    }
    return wanted | others


def test_the_outlook_shows_what_would_happen_and_starts_nothing(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    page = signed_in("root").get("/admin/rollouts/new", query_string=wishes(scene)).text
    assert "<b>3</b> bots in 3 waves" in page
    assert "Start: 3 bots" in page
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


def test_starting_makes_the_rollout_that_was_shown(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    answer = root.post("/admin/rollouts/new", data=wishes(scene))
    assert answer.status_code == 303
    with database.reading() as session:
        made = session.query(Rollout).one()
        assert answer.location == f"/admin/rollouts/{made.id}"
        assert made.parameters["percentage"] == 50
        assert session.query(BotUpdate).count() == 3
    assert "0 of 3 updated" in root.get(answer.location).text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"percentage": "0"}, "must be a whole number from 1 to 100"),
        ({"percentage": "much"}, "Enter a whole number"),
        ({"release": "nothing"}, "Choose one of those offered"),
        ({"strategy": "yolo"}, "Choose one of those offered"),
        ({"audience": "named", "bots": ["nobody"]}, "is not offered"),
    ],
)
def test_what_makes_no_sense_is_refused_beside_its_field(
    signed_in: SignedIn, scene: Scene, database: Database, changed: dict[str, Any], said: str
) -> None:
    root = signed_in("root")
    answer = root.post("/admin/rollouts/new", data=wishes(scene, **changed))
    assert answer.status_code == 422
    assert said in answer.text
    assert root.get("/admin/rollouts/new", query_string=wishes(scene, **changed)).status_code == 200
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


def test_nothing_to_do_is_said_and_no_button_offered(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    page = signed_in("root").get("/admin/rollouts/new", query_string=wishes(scene, audience="automatic")).text
    assert "Nothing to do" in page
    assert "Start:" not in page


def test_a_page_that_is_out_of_date_is_refused_with_the_form_kept(signed_in: SignedIn, scene: Scene) -> None:
    answer = signed_in("root").post("/admin/rollouts/new", data=wishes(scene, audience="named", percentage="37"))
    assert answer.status_code == 409
    assert "Name at least one bot" in answer.text
    assert 'value="37"' in answer.text


def test_a_paused_fleet_refuses(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    assert root.post("/admin/mode", data={"mode": "paused"}).status_code == 303
    answer = root.post("/admin/rollouts/new", data=wishes(scene))
    assert answer.status_code == 409
    assert "The fleet is paused" in answer.text


def test_a_quarantined_release_is_not_offered(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Release, scene.new).quarantined_at = utcnow()
    page = signed_in("root").get("/admin/rollouts/new").text
    assert "1.4.0" in page
    assert "1.5.0" not in page


def test_the_live_part_says_only_what_is_new_and_ends(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.RUNNING])
    address = polled(root.get(f"/admin/rollouts/{made.id}").text)
    assert root.get(address, headers=FRAGMENT).status_code == 204

    with database.transaction() as session:
        running = session.query(BotUpdate).filter_by(state=UpdateState.RUNNING).one()
        move(
            session,
            running,
            UpdateState.RUNNING,
            UpdateState.ROLLED_BACK,
            ended_at=utcnow(),
            error="Port 3100 closed",
        )
    news = root.get(address, headers=FRAGMENT)
    assert news.status_code == 200
    assert "1 of 2 updated · 1 rolled back" in news.text
    assert "progress:changed" in news.headers["HX-Trigger"]
    assert "<html" not in news.text
    assert "Port 3100 closed" in root.get(f"/admin/rollouts/{made.id}?part=updates", headers=FRAGMENT).text

    with database.transaction() as session:
        found = session.get_one(Rollout, made.id)
        move(session, found, RolloutState.RUNNING, RolloutState.COMPLETED, ended_at=utcnow())
    final = root.get(polled(news.text), headers=FRAGMENT).text
    assert "hx-trigger" not in final
    assert "completed" in final


def polled(html: str) -> str:
    """The address that the live part asks for news."""
    found = re.search(r'hx-get="([^"]*part=progress[^"]*)"', html)
    assert found
    return found[1].replace("&amp;", "&")


def test_pause_resume_and_abort(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.PENDING])
    here = f"/admin/rollouts/{made.id}"

    assert root.post(f"{here}/pause").location == here
    page = root.get(here).text
    assert 'id="resume"' in page
    assert 'id="pause"' not in page
    assert root.post(f"{here}/pause").status_code == 409
    root.post(f"{here}/resume")
    assert 'id="pause"' in root.get(here).text
    assert root.post(f"{here}/abort", data={}).status_code == 422
    root.post(f"{here}/abort", data={"reason": "logins fail", "quarantine": "y"})
    page = root.get(here).text
    assert "logins fail" in page
    assert "wave 2 of 2 · 1 of 2 updated · 1 skipped" in root.get("/admin/rollouts").text
    assert "hx-trigger" not in page
    with database.reading() as session:
        assert session.get_one(Release, scene.new).quarantine_reason == "logins fail"


def test_failed_bots_are_tried_again_in_a_rollout_of_their_own(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.ROLLED_BACK, UpdateState.UPDATED])
    answer = root.post(f"/admin/rollouts/{made.id}/retry")
    assert answer.location != f"/admin/rollouts/{made.id}"
    assert "0 of 1 updated" in root.get(answer.location).text


def test_the_mode_is_switched_and_shown(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    root.post("/admin/mode", data={"mode": "paused"})
    assert "The fleet is paused" in root.get("/admin/").text
    with database.transaction() as session:
        assert fleet_settings.get_settings(session).mode == "paused"


@pytest.mark.parametrize("part", ["", "?part=progress", "?part=updates"])
def test_a_rollout_of_many_bots_asks_the_database_no_more_often_than_one_of_few(
    signed_in: SignedIn, app: Flask, database: Database, cast: Cast, part: str
) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        scene = small_fleet(session, session.get_one(Org, cast.org_id), bots=20)
        addresses = []
        for number in (2, 20):
            states = [UpdateState.PENDING] * number
            addresses.append(f"/admin/rollouts/{rollout(session, scene, states).id}{part}")
    with app.app_context():
        engine = db.engine
    needed = []
    for address in (addresses[0], *addresses):  # the first time, settings are made and remembered
        with counted_statements(engine) as statements:
            assert root.get(address, headers=FRAGMENT if part else {}).status_code == 200
        needed.append(len(statements))
    assert needed[1] == needed[2]
