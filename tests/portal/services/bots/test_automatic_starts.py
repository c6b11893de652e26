"""Starts of bots that were found stopped: which bots, how often, and how updates wait for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    DesiredState,
    Event,
    RolloutState,
    SkipReason,
    UpdateState,
    utcnow,
)
from portal.rules.stop_causes import StopCause
from portal.services.bots import automatic_starts, desired_state, observations
from portal.services.bots.automatic_starts import LONGEST_DELAY, SHORTEST_DELAY
from portal.services.bots.observations import Observation
from portal.services.rollouts import updates
from portal.services.rollouts.updates import ClaimResult
from tests.support.world import World, good

CONTAINER = "c" * 64
ERROR = "port is already allocated"


@pytest.fixture
def world(database: Database) -> World:
    """One node with one running bot on release 1.0.0."""
    world = World(database)
    world.add_bots(1, container_id=CONTAINER)
    return world


def load(world: World) -> Bot:
    """Return the bot."""
    with world.database.reading() as session:
        return session.scalars(sa.select(Bot)).one()


def find_stopped(world: World, cause: StopCause | None = StopCause.ENGINE, now: datetime | None = None) -> bool:
    """Let a probe find the bot stopped, and return whether it is being started."""
    with world.database.transaction() as session:
        bot = session.scalars(sa.select(Bot)).one()
        seen = Observation(bot.id, CONTAINER, BotState.STOPPED, "Exited with status 137", None, cause)
        observations.record_observations(session, bot.node_id, [seen], now or world.now)
    return load(world).is_being_started


def fail_to_start(world: World, now: datetime) -> timedelta:
    """Let the engine refuse a start, and return the delay until the next attempt."""
    with world.database.transaction() as session:
        bot = session.scalars(sa.select(Bot)).one()
        automatic_starts.record_failed_start(session, bot, ERROR, now)
    due = load(world).restart_requested_at
    assert due is not None
    return due - now


def list_events(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Return tags and data of the events about starts."""
    with world.database.reading() as session:
        found = session.scalars(sa.select(Event).where(Event.tag.contains("start")).order_by(Event.id))
        return [(event.tag, event.data) for event in found]


def is_pending(world: World) -> bool:
    """Return whether a worker has to start the bot now."""
    with world.database.reading() as session:
        return bool(desired_state.list_pending(session))


def test_bot_that_the_engine_left_down_is_started_once(world: World) -> None:
    assert find_stopped(world, now=utcnow())
    assert is_pending(world)
    due = load(world).restart_requested_at
    assert find_stopped(world, cause=None)
    assert load(world).restart_requested_at == due
    assert list_events(world) == [("bot.start_requested", {"note": "it should run, but was found stopped"})]


@pytest.mark.parametrize("cause", [StopCause.ITSELF, StopCause.PERSON, None])
def test_bot_that_exited_or_was_stopped_by_a_person_stays_down(world: World, cause: StopCause | None) -> None:
    assert not find_stopped(world, cause)
    assert not find_stopped(world), "the cause is decided when the bot is first seen stopped"
    assert (load(world).state, is_pending(world), list_events(world)) == (BotState.STOPPED, False, [])


@pytest.mark.parametrize(
    "values",
    [
        {"desired_state": DesiredState.STOPPED, "applied_state": DesiredState.STOPPED},
        {"needs_attention": "docker start 1234"},
        {"phase": BotPhase.REMOVING},
    ],
    ids=["stopped on request", "needs attention", "removing"],
)
def test_bot_that_need_not_run_is_not_started(world: World, values: dict[str, Any]) -> None:
    world.change(Bot, load(world).id, **values)
    assert not find_stopped(world)
    assert (load(world).restart_requested_at, is_pending(world)) == (None, False)


@pytest.mark.parametrize(("cause", "starts"), [(StopCause.ITSELF, True), (StopCause.PERSON, False)])
def test_restart_policy_counts_only_after_the_cleanup_of_an_update(
    world: World, cause: StopCause, starts: bool
) -> None:
    world.start(world.push("2.0.0"))
    (update_id,) = world.tick()
    world.begin(update_id)
    world.end(update_id)
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).values(cleaned_at=None))
    assert find_stopped(world, cause) is starts


def test_delay_grows_with_the_outage_and_each_outage_has_one_event(world: World) -> None:
    begin = utcnow()
    find_stopped(world, now=begin)
    delays = [fail_to_start(world, begin + timedelta(seconds=seconds)) for seconds in (0, 15, 40, 120, 100_000)]
    assert delays == [SHORTEST_DELAY, SHORTEST_DELAY, timedelta(seconds=40), timedelta(seconds=120), LONGEST_DELAY]
    assert not is_pending(world)
    failures = [data for tag, data in list_events(world) if tag == "bot.start_failed"]
    assert failures == [{"error": ERROR}]
    assert load(world).state_detail == ERROR


def test_bot_that_failed_to_start_is_due_again(world: World) -> None:
    find_stopped(world)
    fail_to_start(world, utcnow() - timedelta(hours=1))
    assert is_pending(world)


def test_stop_does_not_wait_for_the_next_attempt_to_start(world: World) -> None:
    find_stopped(world)
    fail_to_start(world, utcnow())
    assert not is_pending(world)
    world.change(Bot, load(world).id, desired_state=DesiredState.STOPPED)
    assert is_pending(world)


def test_update_waits_while_its_bot_is_being_started(world: World) -> None:
    rollout_id = world.start(world.push("2.0.0"))
    find_stopped(world)
    for _ in range(3):
        assert world.tick() == []
    assert (world.count(rollout_id), world.rollout(rollout_id).state) == ({"pending": 1}, RolloutState.RUNNING)
    world.change(Bot, load(world).id, state=BotState.RUNNING, restart_requested_at=None)
    world.run(good)
    assert (world.count(rollout_id), world.rollout(rollout_id).state) == ({"updated": 1}, RolloutState.COMPLETED)


def test_update_that_found_its_bot_stopped_is_due_again(world: World) -> None:
    """The preflight of an update finds the bot stopped before any probe does."""
    rollout_id = world.start(world.push("2.0.0"))
    (update_id,) = world.tick()
    world.begin(update_id)
    with world.database.transaction() as session:
        bot = session.scalars(sa.select(Bot)).one()
        observations.record_stopped(session, bot, "Exited with status 137", StopCause.ENGINE, world.now)
        update = session.get_one(BotUpdate, update_id)
        updates.skip_update(session, update, SkipReason.STOPPED, world.now)
        bot.lease_until = None
    assert world.tick() == []
    assert (world.count(rollout_id), world.rollout(rollout_id).state) == ({"pending": 1}, RolloutState.RUNNING)
    # A late message must not start it either.
    with world.database.transaction() as session:
        session.execute(sa.update(BotUpdate).values(wave=1))
        assert updates.claim_update(session, update_id, world.now) is ClaimResult.NOTHING
        assert session.get_one(BotUpdate, update_id).state is UpdateState.PENDING


def test_update_of_a_bot_that_stays_down_is_skipped(world: World) -> None:
    rollout_id = world.start(world.push("2.0.0"))
    find_stopped(world, StopCause.PERSON)
    world.tick()
    assert world.count(rollout_id) == {"stopped": 1}
    assert world.rollout(rollout_id).state is RolloutState.COMPLETED
