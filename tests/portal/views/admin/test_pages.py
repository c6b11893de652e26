"""Tests of the operators' pages: overview, releases and fleet."""

import re
from datetime import timedelta

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    DesiredState,
    EventTag,
    Node,
    NodeState,
    PolledImage,
    Release,
    RolloutState,
    UpdateState,
    utcnow,
)
from portal.queue import POLLS_QUEUE, open_queue
from portal.services import events, leases
from portal.views.admin import overview
from tests.factories import IMAGE, REPOSITORY
from tests.support.cast import SignedIn
from tests.support.scene import Scene, digest, rollout


def test_overview_lists_what_needs_attention(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    assert "All clear" in root.get("/admin/").text
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
        session.get_one(Bot, scene.bots[1]).needs_attention = "The old container does not start"
        session.get_one(Bot, scene.bots[2]).state = BotState.UNHEALTHY
        image = session.query(PolledImage).one()
        image.errors, image.last_error, image.last_error_at = 2, "credentials refused", utcnow()
    page = root.get("/admin/").text
    for text in ("The old container does not start", "unhealthy", "credentials refused", "1 rolled back"):
        assert text in page


def test_overview_lists_bots_that_should_run_and_are_stopped(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        stopped, requested, _ = (session.get_one(Bot, bot_id) for bot_id in scene.bots)
        stopped.state, stopped.state_detail = BotState.STOPPED, "Exited with status 137"
        requested.state, requested.desired_state = BotState.STOPPED, DesiredState.STOPPED
    page = signed_in("root").get("/admin/").text
    assert "All clear" not in page
    assert "Paperclip 1</a> of Acme for" in page
    assert "Exited with status 137" in page
    assert "Paperclip 2" not in page


def test_failure_stays_on_the_overview_until_a_later_update_succeeds(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
    for state, is_shown in {
        UpdateState.PENDING: True,
        UpdateState.RUNNING: True,
        UpdateState.SKIPPED: True,
        UpdateState.UPDATED: False,
    }.items():
        with database.transaction() as session:
            later = rollout(session, scene, [UpdateState.PENDING])
            update = session.query(BotUpdate).filter_by(rollout_id=later.id).one()
            update.created_at, update.state = utcnow() + timedelta(hours=1), state
        assert ("The new container answered 503" in root.get("/admin/").text) is is_shown
        with database.transaction() as session:
            session.delete(session.query(BotUpdate).filter_by(rollout_id=later.id).one())


def test_overview_lists_aborted_rollouts_and_quarantined_releases(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    root = signed_in("root")
    assert "No failed updates this week." in root.get("/admin/").text
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.SKIPPED])
        made.state, made.ended_at, made.reason = RolloutState.ABORTED, utcnow(), "2 bots failed"
        release = session.get_one(Release, scene.new)
        release.quarantined_at, release.quarantine_reason = utcnow(), "eats data"
    page = root.get("/admin/").text
    assert "No failed updates this week." not in page
    assert f'<a href="/admin/rollouts/{made.id}">1.5.0</a>' in page
    assert "2 bots failed" in page
    assert f'<a href="/admin/releases/{scene.new}">1.5.0</a>' in page
    assert "eats data" in page


def test_release_without_a_version_is_named_by_its_digest_in_events(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        data = {"image": IMAGE, "digest": digest("f")}
        events.record(session, EventTag.RELEASE_DETECTED, data=data)
    assert f"Release {'f' * 12} of {IMAGE} was detected" in signed_in("root").get("/admin/events").text


def test_command_of_an_operator_links_to_no_user(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.PENDING])
        data = {"version": "1.5.0", "via": "command line"}
        events.record(session, EventTag.ROLLOUT_STARTED, actor="someone", rollout_id=made.id, data=data)
    root = signed_in("root")
    assert "started by an operator, by command line" in root.get(f"/admin/rollouts/{made.id}").text
    page = root.get("/admin/events").text
    assert "an operator, by command line" in page
    assert "/admin/users/someone" not in page


def test_check_now_enqueues_a_poll_of_the_image(
    app: Flask, signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    answer = signed_in("root").post("/admin/releases/check", data={"image": IMAGE})
    assert answer.status_code == 303
    (job,) = open_queue(app.extensions["redis"], POLLS_QUEUE).jobs
    assert (job.func_name, list(job.args)) == ("daemon.jobs.poll_image", [IMAGE])
    with database.reading() as session:
        assert session.query(PolledImage).one().next_poll_at is not None


def test_lookup_of_a_digest_enqueues_a_poll(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    root = signed_in("root")
    pasted = f"{REPOSITORY}@{digest('d')}"
    assert root.post("/admin/releases/paste", data={"reference": f" {pasted} "}).status_code == 303
    assert [job.args for job in open_queue(app.extensions["redis"], POLLS_QUEUE).jobs] == [[pasted]]


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("", "Paste an image with its digest"),
        (IMAGE, "Paste a reference with a digest"),
        ("registry.example/acme/paperclip@sha256:short", "sha256"),
        (f"evil.example/acme/paperclip@sha256:{'d' * 64}", "FLEET_IMAGE_ALLOWLIST"),
    ],
)
def test_invalid_digest_is_rejected(
    app: Flask, signed_in: SignedIn, scene: Scene, reference: str, error: str
) -> None:
    answer = signed_in("root").post("/admin/releases/paste", data={"reference": reference})
    assert answer.status_code == 422
    assert error in answer.text
    assert open_queue(app.extensions["redis"], POLLS_QUEUE).jobs == []


def test_quarantine_and_its_end_require_a_reason(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root, url = signed_in("root"), f"/admin/releases/{scene.new}"
    blank = root.post(f"{url}/quarantine", data={"reason": " "})
    assert blank.status_code == 422
    assert 'aria-invalid="true"' in blank.text
    root.post(f"{url}/quarantine", data={"reason": "eats <data>"})
    assert "eats &lt;data&gt;" in root.get(url).text
    root.post(f"{url}/lift", data={"reason": "was the network"})
    with database.reading() as session:
        assert session.get_one(Release, scene.new).quarantined_at is None


def test_rollback_of_the_fleet_requires_the_typed_version(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    root, url = signed_in("root"), f"/admin/releases/{scene.old}"
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
    assert "1 newer release will be quarantined: 1.5.0" in root.get(url).text
    assert root.post(f"{url}/roll-back", data={"why": "slow", "typed": "1.5.0"}).status_code == 422
    answer = root.post(f"{url}/roll-back", data={"why": "slow", "typed": "1.4.0"})
    assert answer.location.startswith("/admin/rollouts/")
    with database.reading() as session:
        assert session.get_one(Release, scene.new).quarantine_reason == "slow"


def test_fleet_is_searched_and_filtered(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
    assert "3 bots" in root.get("/admin/fleet").text
    assert "1 bot<" in root.get("/admin/fleet?q=paperclip+2").text
    assert "2 bots" in root.get("/admin/fleet?show=outdated").text
    assert "No matching bots" in root.get("/admin/fleet?q=%25").text
    assert "3 bots" in root.get("/admin/fleet?show=nonsense&page=-4").text
    # A page number larger than a database integer.
    assert "Paperclip 2" in root.get(f"/admin/fleet?page={'9' * 20}").text
    fragment = root.get("/admin/fleet?part=bots&q=acme", headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<div id="bots"')


def test_overview_offers_an_action_for_each_line(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    with database.transaction() as session:
        paused = rollout(session, scene, [UpdateState.UPDATED, UpdateState.PENDING])
        paused.state, paused.reason = RolloutState.PAUSED, "too many failures"
        session.get_one(Bot, scene.bots[1]).needs_attention = "The old container does not start"
        session.get_one(Bot, scene.bots[2]).state = BotState.UNHEALTHY
        image = session.query(PolledImage).one()
        image.errors, image.last_error = 2, "credentials refused"
        paused_id = paused.id
    page = root.get("/admin/").text
    for action in (
        f'href="/admin/rollouts/{paused_id}" aria-label="Resume or abort the rollout of 1.5.0"',
        f'href="/o/acme/bots/{scene.bots[1]}" aria-label="Repair Paperclip 2"',
        f'action="/o/acme/bots/{scene.bots[2]}/restart"',
        'aria-label="Check now: registry.example/acme/paperclip:managed"',
    ):
        assert action in page
    root.post(f"/o/acme/bots/{scene.bots[2]}/restart")
    page = root.get("/admin/").text
    assert f"/{scene.bots[2]}/restart" not in page
    assert "restarting" in page


def test_overview_says_which_releases_have_bots_behind(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    page = root.get("/admin/").text
    assert "3 bots behind" in page
    assert f'href="/admin/rollouts/new?release={scene.new}"' in page
    assert "3 bots, 100 %" in page
    with database.transaction() as session:
        open_id = rollout(session, scene, [UpdateState.PENDING] * 3).id
    page = root.get("/admin/").text
    assert f'href="/admin/rollouts/{open_id}"' in page
    assert "Show rollout of 1.5.0" in page
    assert f"rollouts/new?release={scene.new}" not in page


def test_overview_tells_the_health_of_the_platform(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    root = signed_in("root")
    page = root.get("/admin/").text
    for line in (
        "1 image checked",
        "1 node online",
        "Scheduler is not running",
        "No mail server is set",
        "0 waiting",
    ):
        assert line in page
    with database.transaction() as session:
        leases.acquire(session, leases.SCHEDULER, "me", timedelta(minutes=1))
        session.query(PolledImage).one().errors = 1
        session.query(Node).one().state = NodeState.OFFLINE
    page = root.get("/admin/").text
    for line in ("1 of 1 image cannot be checked", "1 of 1 node offline", "Scheduler is running"):
        assert line in page


def test_unchanged_overview_is_answered_before_it_is_loaded(
    signed_in: SignedIn, scene: Scene, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The version also changes every 30 seconds, which must not happen between two requests.
    now = utcnow()
    monkeypatch.setattr(overview, "utcnow", lambda: now)
    root = signed_in("root")

    def poll(version: str) -> TestResponse:
        return root.get(f"/admin/?part=state&version={version}", headers={"HX-Request": "true"})

    found = re.search(r"version=([\w-]+)", root.get("/admin/").text)
    assert found is not None
    with monkeypatch.context() as unloadable:
        unloadable.setattr(overview, "load_overview", None)
        assert poll(found[1]).status_code == 204
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.RUNNING])
    changed = poll(found[1])
    assert changed.status_code == 200
    assert "1</b>" in changed.text


def test_chart_of_outcomes_is_on_the_page_and_not_in_its_live_part(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    root = signed_in("root")
    assert "Rollouts of the last" not in root.get("/admin/").text
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.UPDATED, UpdateState.ROLLED_BACK])
    assert "Rollouts of the last 30 days" in root.get("/admin/").text
    part = root.get("/admin/?part=state", headers={"HX-Request": "true"})
    assert "Rollouts of the last" not in part.text
