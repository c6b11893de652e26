"""Tests of the fleet in numbers: each number is that of the fleet page with the same filter."""

from __future__ import annotations

from datetime import timedelta

from portal.database import Database
from portal.models import Bot, BotPhase, BotState, BotUpdate, Channel, UpdateState, utcnow
from portal.services.bots import fleet_search, fleet_status
from portal.services.bots.fleet_search import BotCondition, FleetFilter
from portal.services.bots.fleet_status import FleetStatus
from tests.support.scene import Scene, rollout


def count_listed(database: Database) -> dict[str, int]:
    now = utcnow()
    with database.reading() as session:
        return {
            condition: fleet_search.search_bots(session, FleetFilter(show=condition), now).total
            for condition in BotCondition
        }


def load(database: Database) -> FleetStatus:
    with database.reading() as session:
        return fleet_status.load_status(session, utcnow())


def test_numbers_are_those_of_the_filtered_fleet(scene: Scene, database: Database) -> None:
    first, second, third = scene.bots
    changes: list[dict[str, dict[str, object]]] = [
        {},
        {first: {"state": BotState.STOPPED}, second: {"state": BotState.UNHEALTHY}},
        {first: {"needs_attention": "repair"}, second: {"state": BotState.MISSING, "current_digest": None}},
        {first: {"release_channel": Channel.PINNED}, second: {"held_until": utcnow() + timedelta(days=1)}},
        {
            first: {"phase": BotPhase.REMOVED},
            second: {"phase": BotPhase.CREATING},
            third: {"state": BotState.UNKNOWN},
        },
        {first: {"current_digest": scene.new_digest}},
    ]
    for change in changes:
        with database.transaction() as session:
            for bot_id, values in change.items():
                bot = session.get_one(Bot, bot_id)
                bot.phase, bot.state = BotPhase.ACTIVE, BotState.RUNNING
                for name, value in values.items():
                    setattr(bot, name, value)
        status, listed = load(database), count_listed(database)
        assert status.bots == listed[BotCondition.ALL]
        assert status.healthy == listed[BotCondition.HEALTHY]
        assert status.unhealthy == listed[BotCondition.UNHEALTHY]
        assert status.stopped == listed[BotCondition.STOPPED]
        assert status.outdated == listed[BotCondition.OUTDATED]


def test_failures_of_the_last_day_are_counted_once_per_bot(scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK, UpdateState.UPDATED, UpdateState.RUNNING])
        old = rollout(session, scene, [UpdateState.FAILED, UpdateState.FAILED])
        for update in session.query(BotUpdate).filter_by(rollout_id=old.id):
            update.ended_at = utcnow() - timedelta(hours=25)
    status, listed = load(database), count_listed(database)
    assert (status.failed, status.updating) == (1, 1)
    assert (listed[BotCondition.FAILED], listed[BotCondition.UPDATING]) == (1, 1)


def test_versions_are_counted_by_image_and_add_up(scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
        session.get_one(Bot, scene.bots[1]).current_digest = "sha256:unknown"
    (image,) = load(database).images
    versions = [(share.release.version if share.release else None, share.bots) for share in image.shares]
    assert versions == [("1.5.0", 1), ("1.4.0", 1), (None, 1)]
    assert (image.bots, image.behind) == (3, 2)
    assert image.target is not None
    assert image.target.version == "1.5.0"
