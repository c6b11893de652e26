"""Skipped releases and scheduled updates, on the pages of an organization and in automatic rollouts."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    Event,
    FleetMode,
    Node,
    NodeState,
    Org,
    PolledImage,
    Release,
    RolloutState,
    SkipReason,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
    User,
    utcnow,
)
from portal.services import fleet_settings
from portal.services.bots import bot_list
from portal.services.errors import ConflictError
from portal.services.rollouts import (
    downtimes,
    eligibility,
    eligibility_changes,
    notifications,
    rollouts,
    scheduled_updates,
    skipped_releases,
)
from portal.services.rollouts.fleet_facts import load_fleet
from tests import factories
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, release, rollout

pytestmark = pytest.mark.requests


def bot_url(scene: Scene, page: str = "") -> str:
    """Return the URL of a page of the first bot."""
    return f"/o/acme/bots/{scene.bots[0]}{page}"


def choose(session: Session, cast: Cast, mode: TenantMode, hours_ahead: int) -> int:
    """Choose the updates of acme, with an hour relative to now, and return the hour."""
    hour = (utcnow() + timedelta(hours=hours_ahead)).hour
    session.merge(TenantUpdateConfig(org_id=cast.org_id, mode=mode, preferred_hour_utc=hour))
    return hour


@pytest.mark.every_database
def test_skipped_version_is_offered_again_on_request_or_with_the_next_release(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    alice, form = signed_in("alice"), {"digest": scene.new_digest}
    assert [alice.post(bot_url(scene, "/skip"), data=form).status_code for _ in range(2)] == [303, 303]
    for person, has_button in (("alice", True), ("root", True), ("bob", False)):
        card = signed_in(person).get("/o/acme/").text
        assert card.count("1.5.0 is skipped") == 1
        assert card.count("Update available: 1.5.0") == 2
        assert ("Offer again" in card) is has_button
        assert ("Skip this version" in card) is has_button
    assert "1.5.0 skipped" in signed_in("root").get("/admin/fleet").text
    assert alice.post(bot_url(scene, "/end-skip")).status_code == 303
    assert alice.post(bot_url(scene, "/end-skip")).status_code == 409
    assert alice.get("/o/acme/").text.count("Update available: 1.5.0") == 3

    alice.post(bot_url(scene, "/skip"), data=form)
    with database.transaction() as session:
        session.query(PolledImage).one().release_id = release(session, "1.6.0", "e", 0).id
    assert alice.get("/o/acme/").text.count("Update available: 1.6.0") == 3
    answer = alice.post(bot_url(scene, "/skip"), data=form)
    assert answer.status_code == 409
    assert "What 1.6.0 brings" in answer.text
    with database.reading() as session:
        recorded = [event.tag for event in session.query(Event).order_by(Event.id) if "skip" in event.tag]
    assert recorded == ["bot.release_skipped", "bot.skip_ended", "bot.release_skipped"]


@pytest.mark.every_database
def test_only_automatic_updates_leave_a_bot_out_that_skips_the_release(
    scene: Scene, database: Database, cast: Cast
) -> None:
    with database.transaction() as session:
        choose(session, cast, TenantMode.AUTO, 0)
        waiting = factories.rollout(
            session, session.get_one(Release, scene.new), audience=Audience.AUTOMATIC, state=RolloutState.RUNNING
        )
        rollouts.add_bots(session, waiting, scene.bots)
        bot, alice = session.get_one(Bot, scene.bots[0]), session.get_one(User, cast.people["alice"])
        skipped_releases.skip(session, bot, scene.new_digest, actor=alice)
    with database.transaction() as session:
        fleet = load_fleet(session, utcnow(), None)
        found = session.get_one(Release, scene.new)
        (candidate,) = eligibility.load_named(session, scene.bots[:1])
        for audience in Audience:
            expected = SkipReason.DECLINED if audience is Audience.AUTOMATIC else None
            assert eligibility.exclusion_reason(candidate, found, audience) is expected
        changes = eligibility_changes.find_changes(
            session, [rollouts.get_rollout(session, waiting.id)], [waiting.id], fleet
        )
        assert [len(ids) for ids in changes[waiting.id].ineligible.values()] == [1]
        session.query(BotUpdate).delete()
        assert set(eligibility.list_joinable(session, fleet, found, 10)) == set(scene.bots[1:])
        choose(session, cast, TenantMode.MANUAL, 0)
        session.flush()
        assert {bot.id for bot in notifications.list_waiting_bots(session, found)} == set(scene.bots[1:])


def test_started_update_cannot_be_skipped(signed_in: SignedIn, scene: Scene, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        choose(session, cast, TenantMode.MANUAL, 2)
        ordered = rollout(session, scene, [UpdateState.RUNNING, UpdateState.PENDING])
        ordered.audience, ordered.ignore_windows = Audience.ALL, False
    page = signed_in("alice").get("/o/acme/").text
    assert page.count("1.5.0 is scheduled for") == 1
    assert page.count("Skip this version") == 1, "only the third bot waits for a decision"
    with database.transaction() as session:
        alice = session.get_one(User, cast.people["alice"])
        for bot_id in scene.bots[:2]:
            with pytest.raises(ConflictError, match="has been started"):
                skipped_releases.skip(session, session.get_one(Bot, bot_id), scene.new_digest, actor=alice)


def test_card_says_when_an_automatic_update_is_scheduled(
    signed_in: SignedIn, scene: Scene, database: Database, cast: Cast
) -> None:
    with database.transaction() as session:
        hour = choose(session, cast, TenantMode.AUTO, 2)
    page = signed_in("alice").get("/o/acme/").text
    assert len(re.findall(rf"1\.5\.0 is scheduled for <time[^>]*>(?:today|tomorrow) at {hour:02}:00 UTC", page)) == 3
    assert page.count("What's new · Update now") == 3
    assert "Update now" not in signed_in("bob").get("/o/acme/").text
    assert "1.5.0 is scheduled for" in signed_in("bob").get(bot_url(scene)).text


def test_bots_that_automatic_updates_leave_out_are_not_called_scheduled(
    scene: Scene, database: Database, cast: Cast
) -> None:
    _, second, third = scene.bots
    with database.transaction() as session:
        hour = choose(session, cast, TenantMode.AUTO, 2)
        now = utcnow()

        def list_scheduled() -> set[str]:
            rows = bot_list.list_for_org(session, session.get_one(Org, cast.org_id))
            return set(scheduled_updates.map_windows(session, rows, now))

        rollout(session, scene, [UpdateState.ROLLED_BACK])
        assert list_scheduled() == {second, third}
        session.get_one(Bot, second).skipped_release_id = scene.new
        assert list_scheduled() == {third}
        waiting = rollout(session, scene, [])
        waiting.ignore_windows = False
        rollouts.add_bots(session, waiting, [second])
        assert list_scheduled() == {second, third}, "an operator's rollout takes the bot"
        waiting.ignore_windows = True
        assert list_scheduled() == {third}, "the update starts as soon as it can"
        waiting.ignore_windows, waiting.state = False, RolloutState.PAUSED
        assert list_scheduled() == {third}
        now = now.replace(hour=hour, minute=59)
        waiting.state = RolloutState.RUNNING
        assert list_scheduled() == {third}, "its hour is now, so it is queued"
        session.get_one(Node, scene.node).state = NodeState.DRAINING
        assert list_scheduled() == set()
        session.get_one(Node, scene.node).state = NodeState.ACTIVE
        fleet_settings.get_settings(session).mode = FleetMode.PAUSED
        session.flush()
        assert list_scheduled() == set()


def test_expected_downtime_is_the_median_of_the_bot_or_else_of_the_fleet(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    first, second, _ = scene.bots

    def add_update(bot_id: str, *seconds: float) -> None:
        with database.transaction() as session:
            for number, downtime in enumerate(seconds):
                made = factories.rollout(session, session.get_one(Release, scene.old))
                stopped = utcnow() - timedelta(days=number + 1)
                ended = stopped + timedelta(seconds=downtime)
                bot = session.get_one(Bot, bot_id)
                times = {"stopped_at": stopped, "answering_at": ended, "ended_at": ended}
                factories.update(session, made, bot, state=UpdateState.UPDATED, **times)

    with database.reading() as session:
        assert downtimes.expect_downtime(session, session.get_one(Bot, first)) is None
    add_update(second, 10, 30, 90)
    assert "about 30 s" in signed_in("alice").get(bot_url(scene, "/changelog")).text
    add_update(first, 4, 6)
    page = signed_in("alice").get(bot_url(scene, "/changelog")).text
    assert re.search(r"about 5 s: the median of\s+its last updates", page)
