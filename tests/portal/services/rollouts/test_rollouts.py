"""Rollouts: start, refusals, "Update now", pause, abort, retry, progress and forecast."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Event,
    FleetMode,
    Release,
    Rollout,
    RolloutState,
    TenantMode,
    Trigger,
    UpdateState,
    User,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.releases import releases
from portal.services.rollouts import forecast, progress, rollouts, selection, transitions
from tests.support.world import ALLOWLIST, World, bad


@pytest.fixture
def world(database: Database) -> World:
    """Return a fleet with one node and release 1.0.0, without bots."""
    return World(database)


@contextmanager
def open_transaction(world: World, bot_id: str) -> Iterator[tuple[Session, Bot, User]]:
    """Open a transaction with a bot and the operator."""
    with world.database.transaction() as session:
        yield session, session.get_one(Bot, bot_id), session.get_one(User, world.root_id)


def update_now(world: World, bot_id: str, release_id: str) -> str:
    with open_transaction(world, bot_id) as (session, bot, root):
        digest = session.get_one(Release, release_id).digest
        return rollouts.update_now(
            session, ALLOWLIST, world.now, bot=bot, digest=digest, actor=root, trigger=Trigger.TENANT
        ).id


def call(world: World, function: Any, rollout_id: str, *arguments: Any, **values: Any) -> Any:
    """Call a transition for a rollout, without an actor."""
    with world.database.transaction() as session:
        rollout = session.get_one(Rollout, rollout_id)
        return function(session, rollout, *arguments, world.now, actor=None, **values)


def test_a_rollout_takes_all_outdated_bots(world: World) -> None:
    world.add_bots(3, mode=TenantMode.MANUAL)
    world.add_bots(1, release_channel=Channel.PINNED)
    world.add_bots(1, needs_attention="restore failed")
    world.add_bots(1, image="ghcr.io/acme/bot:nightly")
    new = world.push("2.0.0")
    world.add_bots(1, current_digest="sha256:" + "200".ljust(64, "0"))

    rollout = world.start(new)

    assert world.count(rollout) == {"pending": 3}
    with world.database.reading() as session:
        event = session.scalars(sa.select(Event)).one()
        assert (event.tag, event.actor_id, event.rollout_id) == ("rollout.started", world.root_id, rollout)
        assert event.data["bots"] == 3


def test_simultaneous_starts_make_one_rollout(world: World) -> None:
    world.add_bots(3)
    new = world.push("2.0.0")
    barrier = threading.Barrier(8)

    def start(_number: int) -> str:
        barrier.wait()
        return world.start(new)

    with ThreadPoolExecutor(8) as pool:
        started = set(pool.map(start, range(8)))

    assert [rollout.id for rollout in world.rollouts()] == list(started)
    assert world.count(*started) == {"pending": 3}
    assert world.events().count("rollout.started") == 1


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": StrategyName.IMMEDIATE},
        {"parameters": {"percentage": 50}},
        {"ignore_windows": False},
        {"audience": Audience.AUTOMATIC},
    ],
)
def test_a_start_with_other_settings_takes_precedence(world: World, values: dict[str, Any]) -> None:
    world.add_bots(2)
    new = world.push("2.0.0")
    first = world.start(new)

    second = world.start(new, **values)

    assert second != first
    assert world.count(first) == {"taken by hand": 2}
    assert world.count(second) == {"pending": 2}


def test_a_start_that_includes_further_bots_is_a_new_rollout(world: World) -> None:
    one, two = world.add_bots(2)
    new = world.push("2.0.0")
    first = world.start(new, [one])

    assert world.start(new, [one]) == first
    assert world.start(new, [one, two]) != first


def test_a_paused_rollout_does_not_keep_the_same_request_from_starting(world: World) -> None:
    world.add_bots(2)
    new = world.push("2.0.0")
    first = world.start(new)
    call(world, transitions.pause_rollout, first, "to see")

    assert world.start(new) != first


def test_a_stopped_bot_is_skipped(world: World) -> None:
    world.add_bots(2)
    world.add_bots(1, state=BotState.STOPPED)
    rollout = world.start(world.push("2.0.0"))

    world.tick()

    assert world.count(rollout) == {"pending": 2, "stopped": 1}


@pytest.mark.parametrize(
    ("values", "field"),
    [({"parameters": {"percentage": 500}}, "percentage"), ({"parameters": {"hurry": 1}}, "hurry")],
)
def test_invalid_parameters_are_refused(world: World, values: dict[str, Any], field: str) -> None:
    world.add_bots(1)
    new = world.push("2.0.0")

    with pytest.raises(InvalidError) as refused:
        world.start(new, **values)

    assert refused.value.field == field
    assert world.rollouts() == []


def test_a_quarantined_release_is_refused_until_the_quarantine_is_lifted(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")
    with open_transaction(world, bot) as (session, _, root):
        releases.quarantine(session, session.get_one(Release, new), "loses notes", world.now, actor=root)

    with pytest.raises(ConflictError, match="is quarantined") as refused:
        world.start(new)
    assert "loses notes" in refused.value.for_operators
    assert "loses notes" not in str(refused.value)
    with pytest.raises(ConflictError):
        update_now(world, bot, new)

    with open_transaction(world, bot) as (session, _, root):
        releases.lift_quarantine(session, session.get_one(Release, new), "it was the proxy", world.now, actor=root)
    world.start(new)


def test_an_image_outside_the_allowlist_is_refused(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")

    with open_transaction(world, bot) as (session, _, root):
        rollout_request = selection.RolloutRequest(
            release=session.get_one(Release, new),
            strategy=StrategyName.IMMEDIATE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        with pytest.raises(InvalidError, match="does not allow its image") as refused:
            rollouts.start_rollout(
                session, Allowlist.parse(["ghcr.io/acme-other"]), rollout_request, world.now, actor=root
            )
    assert "FLEET_IMAGE_ALLOWLIST" in refused.value.for_operators


def test_no_rollout_starts_in_a_paused_fleet(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")
    world.set_mode(FleetMode.PAUSED)

    with pytest.raises(ConflictError, match="paused"):
        world.start(new)
    with pytest.raises(ConflictError, match="paused"):
        update_now(world, bot, new)


def test_a_rollout_that_changes_no_bot_is_refused_with_the_reason(world: World) -> None:
    with pytest.raises(selection.NothingToDoError, match="no bot follows"):
        world.start(world.first)
    world.add_bots(2)
    with pytest.raises(selection.NothingToDoError, match="2 already up to date"):
        world.start(world.first)
    world.set_mode(FleetMode.MANUAL)
    new = world.push("2.0.0")
    with pytest.raises(selection.NothingToDoError, match="no organization on automatic updates"):
        world.start(new, audience=Audience.AUTOMATIC)
    assert world.rollouts() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"state": BotState.STOPPED}, "is stopped"),
        ({"state": BotState.MISSING}, r"is gone, so there is nothing to do\.$"),
        (
            {"state": BotState.MISSING, "desired_state": DesiredState.STOPPED},
            r"is gone, so there is nothing to do\.$",
        ),
        ({"needs_attention": "docker start 1234"}, r"must be repaired by an operator before it can be updated\.$"),
        ({"image": "ghcr.io/acme/other:stable"}, "not an image of"),
    ],
)
def test_a_named_bot_that_cannot_be_updated_is_refused_by_name(
    world: World, values: dict[str, Any], message: str
) -> None:
    [bot] = world.add_bots(1, **values)

    with pytest.raises(InvalidError, match=f"bot 0.*{message}"):
        world.start(world.push("2.0.0"), [bot])


def test_an_older_release_is_only_rolled_out_by_rolling_the_fleet_back(world: World) -> None:
    world.add_bots(2)
    world.push("2.0.0")
    world.start(world.push("3.0.0"))
    world.run()

    with pytest.raises(ConflictError, match=r"points at 3\.0\.0.*Roll the fleet back to 1\.0\.0"):
        world.start(world.first)

    with world.database.transaction() as session:
        first = session.get_one(Release, world.first)
        rollout = rollouts.roll_back_fleet(
            session, ALLOWLIST, world.now, release=first, reason="3.0.0 is slow", actor=None
        )
        quarantined = session.scalars(sa.select(Release).where(Release.quarantined_at.is_not(None))).all()
        assert {release.version for release in quarantined} == {"2.0.0", "3.0.0"}
        rollout_id = rollout.id
    assert world.count(rollout_id) == {"pending": 2}


def test_a_refused_fleet_rollback_quarantines_nothing(world: World) -> None:
    world.add_bots(2)
    world.push("2.0.0")

    with world.database.transaction() as session, pytest.raises(selection.NothingToDoError):
        rollouts.roll_back_fleet(
            session, ALLOWLIST, world.now, release=session.get_one(Release, world.first), reason="slow", actor=None
        )

    with world.database.reading() as session:
        assert session.scalar(sa.select(Release).where(Release.quarantined_at.is_not(None))) is None


def test_update_now_ignores_windows_and_two_clicks_make_one_rollout(world: World) -> None:
    [bot] = world.add_bots(1, mode=TenantMode.MANUAL, hour=5)
    new = world.push("2.0.0")

    first, second = update_now(world, bot, new), update_now(world, bot, new)
    due = world.tick()
    world.begin(due[0])
    third = update_now(world, bot, new)
    world.end(due[0])

    assert first == second == third
    assert world.count_running(new) == 1
    assert world.rollout(first).trigger is Trigger.TENANT
    with pytest.raises(selection.NothingToDoError, match=r"bot 0 runs 2\.0\.0 already"):
        update_now(world, bot, new)


def test_update_now_skips_the_pending_update_of_the_bot_in_another_rollout(world: World) -> None:
    bot, _ = world.add_bots(2, hour=5)
    new = world.push("2.0.0")
    world.tick()
    [automatic] = world.rollouts()

    by_hand = update_now(world, bot, new)
    world.run()

    assert world.count(automatic.id) == {"pending": 1, "taken by hand": 1}
    assert world.count(by_hand) == {"updated": 1}


def test_update_now_to_an_outdated_release_is_refused_with_the_newer_release(world: World) -> None:
    [bot] = world.add_bots(1)
    shown = world.push("2.0.0")
    newer = world.push("3.0.0")

    with open_transaction(world, bot) as (session, row, root):
        digest = session.get_one(Release, shown).digest
        with pytest.raises(rollouts.NewerReleaseError) as refused:
            rollouts.update_now(
                session, ALLOWLIST, world.now, bot=row, digest=digest, actor=root, trigger=Trigger.TENANT
            )
        assert refused.value.release.id == newer

    assert world.rollouts() == []


def test_a_failed_update_now_does_not_quarantine_the_release(world: World) -> None:
    [bot] = world.add_bots(1, mode=TenantMode.MANUAL)
    new = world.push("2.0.0")
    rollout = update_now(world, bot, new)

    world.run(bad)

    assert world.rollout(rollout).state is RolloutState.COMPLETED
    assert world.count(rollout) == {"rolled_back": 1}
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is None


def test_a_paused_rollout_lets_bots_in_flight_finish_and_starts_no_other(world: World) -> None:
    world.add_bots(4)
    new = world.push("2.0.0")
    rollout = world.start(new, strategy=StrategyName.IMMEDIATE)
    in_flight, late = world.tick()
    world.begin(in_flight)
    call(world, transitions.pause_rollout, rollout, "lunch")

    world.work([late])
    assert world.tick() == []
    world.end(in_flight)
    assert (world.count_running(new), world.rollout(rollout).reason) == (1, "lunch")

    call(world, transitions.resume_rollout, rollout)
    world.run()
    assert world.count_running(new) == 4
    assert world.events() == ["rollout.started", "rollout.paused", "rollout.resumed", "rollout.completed"]


def test_aborting_skips_pending_updates(world: World) -> None:
    world.add_bots(4)
    rollout = world.start(world.push("2.0.0"))
    [canary] = world.tick()
    world.begin(canary)

    call(world, transitions.abort_rollout, rollout, "wrong day")
    world.end(canary)

    assert world.rollout(rollout).state is RolloutState.ABORTED
    assert world.count(rollout) == {"updated": 1, "aborted": 3}
    with world.database.reading() as session:
        assert session.get_one(Rollout, rollout).release.quarantined_at is None


@pytest.mark.parametrize("by", ["aborting", "update now", "another mode"])
def test_an_update_skipped_between_two_attempts_has_no_error(world: World, by: str) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")
    rollout_id = world.start(new)
    with world.database.transaction() as session:
        update = session.query(BotUpdate).one()
        update.error, update.transient = "the registry was away", True
        if by == "another mode":
            update.bot.desired_state = DesiredState.STOPPED

    if by == "aborting":
        call(world, transitions.abort_rollout, rollout_id, "enough")
    elif by == "update now":
        update_now(world, bot, new)
    else:
        world.tick()

    with world.database.reading() as session:
        skipped = session.query(BotUpdate).filter_by(rollout_id=rollout_id).one()
    assert (skipped.state, skipped.error, skipped.transient) == (UpdateState.SKIPPED, None, False)


def test_an_ended_rollout_cannot_be_paused_resumed_or_aborted(world: World) -> None:
    world.add_bots(1)
    rollout = world.start(world.push("2.0.0"))
    with pytest.raises(ConflictError, match="Only a paused rollout"):
        call(world, transitions.resume_rollout, rollout)
    call(world, transitions.abort_rollout, rollout, "wrong day", quarantine=True)

    for function, arguments in (
        (transitions.pause_rollout, ["x"]),
        (transitions.resume_rollout, []),
        (transitions.abort_rollout, ["x"]),
    ):
        with pytest.raises(ConflictError, match="aborted"):
            call(world, function, rollout, *arguments)
    assert world.count(rollout) == {"quarantined": 1}


def test_a_retry_is_a_new_rollout_of_only_the_failed_bots(world: World) -> None:
    bots = world.add_bots(6)
    new = world.push("2.0.0")
    rollout = world.start(new)
    world.run(lambda bot: "bad" if bot.id in bots[4:] else "good")

    with world.database.transaction() as session:
        again = rollouts.retry_failed(session, ALLOWLIST, session.get_one(Rollout, rollout), world.now, actor=None).id
    world.run()

    assert world.count(again) == {"updated": 2}
    assert world.count_running(new) == 6
    with world.database.transaction() as session, pytest.raises(selection.NothingToDoError):
        rollouts.retry_failed(session, ALLOWLIST, session.get_one(Rollout, rollout), world.now, actor=None)


def test_the_counts_of_the_summary_add_up(world: World) -> None:
    bots = world.add_bots(8)
    rollout = world.start(world.push("2.0.0"))
    world.work(world.tick())
    world.now += timedelta(seconds=61)
    due = world.tick()
    world.work(due, lambda bot: "bad" if bot.id == bots[1] else "good")

    with world.database.reading() as session:
        summary = progress.summarize(session, session.get_one(Rollout, rollout), world.now, None)
        waves = progress.list_waves(session, session.get_one(Rollout, rollout), 100)

    assert summary.words == "wave 2 of 5 · 2 of 8 updated · 1 rolled back"
    assert summary.total == 8 == sum(sum(counts.values()) for counts in waves.values())
    assert list(waves) == [1, 2, None]
    assert (summary.updated, summary.failed) == (2, 1)


def test_the_forecast_matches_the_rollout(world: World) -> None:
    world.add_bots(9)
    new = world.push("2.0.0")
    with world.database.reading() as session:
        rollout_request = selection.RolloutRequest(
            release=session.get_one(Release, new),
            strategy=StrategyName.ROLLING_WAVE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        expected = forecast.preview_rollout(session, ALLOWLIST, rollout_request, world.now).forecast
    rollout = world.start(new)
    world.run()

    with world.database.reading() as session:
        waves = progress.list_waves(session, session.get_one(Rollout, rollout), 100)
    assert [wave.bots for wave in expected.waves] == [sum(counts.values()) for counts in waves.values()]


def test_an_unknown_rollout_is_not_found(world: World) -> None:
    with world.database.reading() as session, pytest.raises(NotFoundError):
        rollouts.get_rollout(session, "nosuch")
