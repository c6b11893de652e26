"""Tests of the operators' rollout pages: preview and start, errors, live progress, and the buttons."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, BotUpdate, Release, Rollout, RolloutState, UpdateState, move, utcnow
from portal.services import fleet_settings
from portal.services.rollouts import page_versions
from tests.support.cast import SignedIn
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.requests

FRAGMENT = {"HX-Request": "true"}


def rollout_form(scene: Scene, **changes: Any) -> dict[str, Any]:
    """Return the form values of a rollout to all bots, with the given changes."""
    values = {
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
    return values | changes


def previewed(root: FlaskClient, values: dict[str, Any]) -> dict[str, Any]:
    """Return the form values with those of the Start button, after its page has shown the preview."""
    page = root.post("/admin/rollouts/new/preview", data=values).text
    found = re.search(r'name="previewed" value="(\w+)"', page)
    return values | {"previewed": found[1] if found else ""}


@pytest.mark.every_database
def test_preview_shows_waves_and_starts_nothing(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    page = signed_in("root").get("/admin/rollouts/new", query_string=rollout_form(scene)).text
    assert "<b>3</b> bots in 3 waves" in page
    assert "Start rollout of 3 bots" in page
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


@pytest.mark.every_database
def test_start_creates_the_previewed_rollout(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    answer = root.post("/admin/rollouts/new", data=previewed(root, rollout_form(scene)))
    assert answer.status_code == 303
    with database.reading() as session:
        made = session.query(Rollout).one()
        assert answer.location == f"/admin/rollouts/{made.id}"
        assert made.parameters["percentage"] == 50
        assert session.query(BotUpdate).count() == 3
    assert "0 of 3 updated" in root.get(answer.location).text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"percentage": "much"}, "Enter a whole number"),
        ({"release": "nothing"}, "Choose one of the options"),
        ({"strategy": "yolo"}, "Choose one of the options"),
        ({"audience": "named", "bots": ["x"] * 501}, "Choose at most 500 bots"),
    ],
)
def test_invalid_value_is_rejected_beside_its_field(
    signed_in: SignedIn, scene: Scene, database: Database, changes: dict[str, Any], error: str
) -> None:
    root = signed_in("root")
    answer = root.post("/admin/rollouts/new", data=rollout_form(scene, **changes))
    assert answer.status_code == 422
    assert error in answer.text
    assert root.get("/admin/rollouts/new", query_string=rollout_form(scene, **changes)).status_code == 200
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


def test_start_without_outdated_bots_is_disabled_with_the_reason(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    page = signed_in("root").get("/admin/rollouts/new", query_string=rollout_form(scene, audience="automatic")).text
    assert "Nothing to do" in page
    assert 'disabled aria-describedby="refusal">Start rollout</button>' in page


def test_conflict_keeps_the_form_values(signed_in: SignedIn, scene: Scene) -> None:
    answer = signed_in("root").post(
        "/admin/rollouts/new", data=rollout_form(scene, audience="named", percentage="37")
    )
    assert answer.status_code == 409
    assert "not in the preview yet" in answer.text
    assert "Choose at least one bot" in answer.text
    assert 'value="37"' in answer.text


def test_paused_fleet_starts_no_rollout(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    values = previewed(root, rollout_form(scene))
    assert root.post("/admin/mode", data={"mode": "paused"}).status_code == 303
    answer = root.post("/admin/rollouts/new", data=values)
    assert answer.status_code == 409
    assert "The fleet is paused" in answer.text


def test_quarantined_release_is_not_offered(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Release, scene.new).quarantined_at = utcnow()
    page = signed_in("root").get("/admin/rollouts/new").text
    assert "1.4.0" in page
    assert "1.5.0" not in page


@pytest.mark.every_database
def test_live_progress_sends_only_changes_and_stops_at_the_end(
    signed_in: SignedIn, scene: Scene, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = signed_in("root")
    monkeypatch.setattr(page_versions, "_slot", lambda _now: 0)
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.RUNNING])
    url = polling_url(root.get(f"/admin/rollouts/{made.id}").text)
    assert root.get(url, headers=FRAGMENT).status_code == 204

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
    change = root.get(url, headers=FRAGMENT)
    assert change.status_code == 200
    assert "1 of 2 updated · 1 rolled back" in change.text
    assert "progress:changed" in change.headers["HX-Trigger"]
    assert "<html" not in change.text
    assert "Port 3100 closed" in root.get(f"/admin/rollouts/{made.id}?part=updates", headers=FRAGMENT).text

    with database.transaction() as session:
        found = session.get_one(Rollout, made.id)
        move(session, found, RolloutState.RUNNING, RolloutState.COMPLETED, ended_at=utcnow())
    final = root.get(polling_url(change.text), headers=FRAGMENT).text
    assert "hx-trigger" not in final
    assert "completed" in final


def polling_url(html: str) -> str:
    """Return the URL that the live progress polls."""
    found = re.search(r'hx-get="([^"]*part=progress[^"]*)"', html)
    assert found
    return found[1].replace("&amp;", "&")


@pytest.mark.every_database
def test_rollout_is_paused_resumed_and_aborted(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.PENDING])
    url = f"/admin/rollouts/{made.id}"

    assert root.post(f"{url}/pause").location == url
    page = root.get(url).text
    assert 'id="resume"' in page
    assert 'id="pause"' not in page
    assert root.post(f"{url}/pause").status_code == 409
    root.post(f"{url}/resume")
    assert 'id="pause"' in root.get(url).text
    assert root.post(f"{url}/abort", data={}).status_code == 422
    root.post(f"{url}/abort", data={"reason": "logins fail", "quarantine": "y"})
    page = root.get(url).text
    assert "logins fail" in page
    assert "wave 2 of 2 · 1 of 2 updated · 1 skipped" in root.get("/admin/rollouts").text
    assert "every 3s" not in page
    with database.reading() as session:
        assert session.get_one(Release, scene.new).quarantine_reason == "logins fail"


@pytest.mark.every_database
def test_retry_starts_a_new_rollout_of_the_failed_bots(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.ROLLED_BACK, UpdateState.UPDATED])
    answer = root.post(f"/admin/rollouts/{made.id}/retry")
    assert answer.location != f"/admin/rollouts/{made.id}"
    assert "0 of 1 updated" in root.get(answer.location).text


def test_retry_that_would_be_refused_is_not_offered(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        url = f"/admin/rollouts/{rollout(session, scene, [UpdateState.ROLLED_BACK]).id}"
    assert f'action="{url}/retry"' in root.get(url).text

    root.post("/admin/mode", data={"mode": "paused"})
    page = root.get(url).text
    assert f'action="{url}/retry"' not in page
    assert "No update starts until an operator resumes it." in page
    root.post("/admin/mode", data={"mode": "auto"})

    root.post(f"/admin/releases/{scene.new}/quarantine", data={"reason": "eats data"})
    page = root.get(url).text
    assert f'action="{url}/retry"' not in page
    assert f'href="/admin/releases/{scene.new}#quarantine"' in page
    assert "Lift quarantine…" in page

    root.post(f"/admin/releases/{scene.new}/lift", data={"reason": "was the disk"})
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
    page = root.get(url).text
    assert f'action="{url}/retry"' not in page
    assert "no failed bot that can be retried" in page


def test_fleet_mode_is_changed_and_shown(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    root.post("/admin/mode", data={"mode": "paused"})
    assert "Paused: no update starts" in root.get("/admin/").text
    with database.transaction() as session:
        assert fleet_settings.get_settings(session).mode == "paused"
