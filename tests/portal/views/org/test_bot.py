"""Tests of the pages of a bot: badge, changelog, "Update now", "Later", and "Mark as fixed"."""

import html
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal import live_readings
from portal.database import Database
from portal.live_readings import Reading
from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    DesiredState,
    PolledImage,
    Release,
    Rollout,
    Trigger,
    UpdateNotice,
    UpdateState,
    Verdict,
    utcnow,
)
from portal.queue import READINGS_QUEUE, open_queue
from tests.support.cast import SignedIn
from tests.support.scene import Scene, release, rollout

pytestmark = pytest.mark.requests


def bot_url(scene: Scene, page: str = "") -> str:
    """Return the URL of a page of the first bot."""
    return f"/o/acme/bots/{scene.bots[0]}{page}"


def update_now(client: FlaskClient, scene: Scene) -> int:
    """Send "Update now" from the changelog of 1.5.0 and return the status."""
    return client.post(bot_url(scene, "/update"), data={"digest": scene.new_digest}).status_code


def later(scene: Scene, reminder: str = "tomorrow") -> dict[str, str]:
    """Return the form that asks for a reminder of 1.5.0."""
    return {"digest": scene.new_digest, "reminder": reminder}


@pytest.mark.every_database
def test_badge_is_shown_where_a_newer_release_exists(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).current_digest = scene.new_digest
    assert signed_in("bob").get("/o/acme/").text.count("Update available: 1.5.0") == 2


def test_members_see_the_changelog_without_buttons(signed_in: SignedIn, scene: Scene) -> None:
    page = signed_in("bob").get(bot_url(scene, "/changelog")).text
    assert "What 1.5.0 brings" in page
    assert "&lt;b&gt;not bold" in page
    assert "Update now" not in page
    assert "Update now" in signed_in("carol").get(bot_url(scene, "/changelog")).text


@pytest.mark.every_database
def test_repeated_update_now_creates_one_update(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    assert [update_now(alice, scene), update_now(alice, scene), update_now(carol, scene)] == [303, 303, 303]
    with database.reading() as session:
        made = session.query(Rollout).one()
    assert (made.trigger, made.strategy) == (Trigger.TENANT, "single_bot")
    page = alice.get("/o/acme/").text
    assert "queued" in page
    assert page.count("Update available") == 2


def test_update_by_an_operator_is_recorded_as_such(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    update_now(signed_in("root"), scene)
    with database.reading() as session:
        assert session.query(Rollout).one().trigger == Trigger.OPERATOR


def test_newer_release_is_shown_instead_of_starting_the_update(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    alice = signed_in("alice")
    with database.transaction() as session:
        newer = release(session, "1.6.0", "e", 0)
        session.query(PolledImage).one().release_id = newer.id
    answer = alice.post(bot_url(scene, "/update"), data={"digest": scene.new_digest})
    assert answer.status_code == 409
    assert "1.6.0 was released in the meantime" in answer.text
    assert "What 1.6.0 brings" in answer.text
    assert "What 1.5.0 brings" in answer.text
    assert newer.digest in answer.text
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


def test_paused_fleet_disables_update_now(signed_in: SignedIn, scene: Scene) -> None:
    signed_in("root").post("/admin/mode", data={"mode": "paused"})
    page = signed_in("alice").get(bot_url(scene, "/changelog")).text
    assert "disabled>Update now" in page
    assert "paused by your provider" in page
    assert update_now(signed_in("alice"), scene) == 409


def test_later_applies_to_one_user_and_keeps_the_badge(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    alice = signed_in("alice")
    for _ in range(2):
        assert alice.post(bot_url(scene, "/later"), data=later(scene)).status_code == 303
    with database.reading() as session:
        assert session.query(UpdateNotice).one().release_id == scene.new
    assert alice.post(bot_url(scene, "/later"), data=later(scene, "never")).status_code == 422
    with database.reading() as session:
        assert timedelta(hours=23) < session.query(UpdateNotice).one().snoozed_until - utcnow() < timedelta(days=1)
    alice.post(bot_url(scene, "/later"), data=later(scene, "next_week"))
    with database.reading() as session:
        assert timedelta(days=6) < session.query(UpdateNotice).one().snoozed_until - utcnow() < timedelta(days=7)
    cards = alice.get("/o/acme/").text
    assert (cards.count("Update available"), cards.count("Reminder <time")) == (3, 1)
    assert "Reminder <time" in alice.get(bot_url(scene)).text
    assert "Reminder <time" not in signed_in("carol").get("/o/acme/").text


@pytest.mark.every_database
def test_reminder_returns_the_next_day_or_with_a_newer_release(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    alice = signed_in("alice")
    alice.post(bot_url(scene, "/later"), data=later(scene))
    with database.transaction() as session:
        session.query(UpdateNotice).one().snoozed_until -= timedelta(days=1)
    assert "Reminder <time" not in alice.get("/o/acme/").text

    alice.post(bot_url(scene, "/later"), data=later(scene))
    with database.transaction() as session:
        session.query(PolledImage).one().release_id = release(session, "1.6.0", "e", 0).id
    cards = alice.get("/o/acme/").text
    assert "Update available: 1.6.0" in cards
    assert "Reminder <time" not in cards


def test_rolled_back_update_is_explained(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
    page = signed_in("bob").get(bot_url(scene)).text
    assert "Still on version 1.4.0, your data is as it was at" in page
    assert "The new version did not start correctly." in page
    assert "answered 503" not in page
    assert "answered 503" in signed_in("root").get(bot_url(scene)).text


def test_data_that_was_restored_because_of_the_engine_is_not_called_unchanged(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.FAILED])
    assert "Nothing was changed" in signed_in("bob").get(bot_url(scene)).text
    with database.transaction() as session:
        for update in session.query(BotUpdate):
            update.verdict, update.transient, update.stopped_at = Verdict.FAILED, True, update.started_at
    page = signed_in("bob").get(bot_url(scene)).text
    assert "Nothing was changed" not in page
    assert "Still on version 1.4.0, your data is as it was at" in page


@pytest.mark.parametrize("name", ["alice", "carol", "bob", "root"])
def test_all_roles_read_the_log_of_a_failed_update(
    signed_in: SignedIn, scene: Scene, database: Database, name: str
) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
        session.query(BotUpdate).one().log_tail = "migration 7 failed: <script>alert(1)</script>"

    page = signed_in(name).get(bot_url(scene)).text

    assert "Last log lines of the new container" in page
    assert "migration 7 failed: &lt;script&gt;" in page
    assert signed_in("mallory").get(bot_url(scene)).status_code == 404


def test_refused_image_is_explained_to_operators_only(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    app.extensions["settings"] = replace(app.extensions["settings"], fleet_image_allowlist=("ghcr.io/other",))

    def refusal(name: str) -> str:
        answer = signed_in(name).post(bot_url(scene, "/update"), data={"digest": scene.new_digest})
        assert answer.status_code == 422
        return html.unescape(answer.text)

    assert "your provider does not allow its image" in refusal("alice")
    assert "FLEET_IMAGE_ALLOWLIST" not in refusal("alice")
    assert "FLEET_IMAGE_ALLOWLIST admits ghcr.io/other" in refusal("root")


def test_state_is_explained_by_its_class_to_customers(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        bot.state, bot.state_detail = BotState.UNHEALTHY, "Health check failed: 10.0.0.7 answered 503"
    customer, operator = (signed_in(name).get(bot_url(scene)).text for name in ("bob", "root"))
    assert "The bot does not answer its health check." in html.unescape(customer)
    assert "10.0.0.7" not in customer
    assert "10.0.0.7 answered 503" in operator


@pytest.mark.every_database
def test_operator_marks_a_bot_as_fixed(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).needs_attention = "docker start 1234"
    alice, root = signed_in("alice"), signed_in("root")
    assert "Mark as fixed…" not in alice.get(bot_url(scene)).text
    assert "Mark as fixed…" in root.get(bot_url(scene)).text

    rejected = root.post(bot_url(scene, "/clear"), data={"reason": ""})
    assert (rejected.status_code, "Enter a reason" in rejected.text) == (422, True)
    assert root.post(bot_url(scene, "/clear"), data={"reason": "restored it"}).status_code == 303

    page = root.get(bot_url(scene)).text
    assert "Mark as fixed…" not in page
    assert "Paperclip 1 was marked as fixed" in page
    assert "Paperclip 1 was marked as fixed: restored it" in root.get("/admin/events").text
    assert root.post(bot_url(scene, "/clear"), data={"reason": "again"}).status_code == 409


def test_paths_without_snapshots_are_listed(signed_in: SignedIn, scene: Scene) -> None:
    bob = signed_in("bob")
    assert "Not protected by snapshots" not in bob.get(bot_url(scene)).text
    assert "/srv/shared" in bob.get(f"/o/acme/bots/{scene.bots[1]}").text


def test_release_without_notes_can_be_installed(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Release, scene.new).changelog = None
    page = signed_in("alice").get(bot_url(scene, "/changelog")).text
    assert "No notes for this release" in page
    assert "Update now" in page


def test_stopped_bot_is_not_offered_an_update_that_would_be_refused(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).desired_state = DesiredState.STOPPED
    text = signed_in("alice").get(bot_url(scene, "/changelog")).text
    assert "is stopped. Start it first, then update it." in text
    assert '<button class="btn btn-primary" disabled>Update now' in text


def test_resource_use_is_shown_and_requested_once(
    app: Flask, signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    page = bot_url(scene)
    assert "Measuring…" in signed_in("bob").get(page).text
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.UPDATED])
        session.query(BotUpdate).one().journal = {"volume_sizes": [5_000_000, 9_000_000]}
    redis = app.extensions["redis"]
    values = {"cpus": 0.256, "memory": 50_000_000, "memory_limit": 512_000_000, "error": None}
    live_readings.store(redis, Reading.RESOURCE_USE, scene.bots[0], values, utcnow())
    text = signed_in("bob").get(page).text
    for shown in ("26 %", "50.0 MB", "of 512.0 MB", "5.0 MB"):
        assert shown in text
    assert [job.func_name for job in open_queue(redis, READINGS_QUEUE).get_jobs()] == [
        "daemon.jobs.read_resource_use"
    ]
    failed = {"cpus": None, "error": "unix:///docker.sock refused"}
    live_readings.store(redis, Reading.RESOURCE_USE, scene.bots[0], failed, utcnow())
    assert "docker.sock" not in signed_in("bob").get(page).text
    assert "docker.sock" in signed_in("root").get(page).text


def test_page_says_how_and_by_whom_a_bot_was_added(signed_in: SignedIn, scene: Scene) -> None:
    about = signed_in("bob").get(bot_url(scene)).text.partition('id="about"')[2].partition("</section>")[0]
    assert "<dt>Adopted</dt>" in about
    assert "by Flotilla" in about
    assert "paperclip-1.bots.example" in about
    assert "127.0.0.1:20001" not in about
    assert "127.0.0.1:20001" in signed_in("root").get(bot_url(scene)).text
