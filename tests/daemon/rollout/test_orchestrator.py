"""The orchestrator over a real database, with workers that only write down outcomes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    DesiredState,
    Event,
    FleetMode,
    Node,
    NodeState,
    Release,
    Rollout,
    RolloutState,
    StrategyName,
    TenantMode,
    TenantUpdateConfig,
    Trigger,
    UpdateState,
    utcnow,
)
from portal.models.encrypted import use_keys
from portal.rules.strategies import HEALTH_CHECK_TIMEOUT
from portal.services.releases import releases
from portal.services.rollouts import progress, rollouts, transitions
from tests.support.world import ALLOWLIST, IMAGE, World, bad


def test_a_new_release_reaches_every_automatic_bot_in_waves(world: World) -> None:
    world.add_bots(9)
    new = world.push("2.0.0")

    world.run()

    [rollout] = world.rollouts()
    assert (rollout.state, rollout.trigger) == (RolloutState.COMPLETED, Trigger.AUTO)
    assert world.count(rollout.id) == {"updated": 9}
    assert world.on(new) == 9
    assert _sizes(world, rollout.id) == [1, 2, 2, 2, 2]
    assert world.events() == ["rollout.started", "rollout.completed"]


def test_nothing_happens_where_nothing_is_to_be_done(world: World) -> None:
    world.add_bots(3)

    assert world.tick() == []
    assert world.rollouts() == []


def test_a_bad_release_stops_at_the_canary_and_is_quarantined(world: World) -> None:
    world.add_bots(9)
    new = world.push("2.0.0")

    world.run(bad)

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    assert rollout.reason is not None
    assert "did not become healthy" in rollout.reason
    assert world.count(rollout.id) == {"rolled_back": 1, "quarantined": 8}
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is not None
    assert world.events() == ["rollout.started", "release.quarantined", "rollout.aborted"]


def test_a_canary_that_no_snapshot_could_be_taken_of_condemns_no_release(world: World) -> None:
    world.add_bots(4)
    new = world.push("2.0.0")

    world.run(lambda _bot: "no snapshot")

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is None


def test_a_lifted_quarantine_lets_automatic_updates_begin_again(world: World) -> None:
    world.add_bots(2)
    new = world.push("2.0.0")
    world.run(bad)

    with world.database.transaction() as session:
        releases.lift_quarantine(session, session.get_one(Release, new), "the registry was down", None)
    world.run()

    assert [rollout.state for rollout in world.rollouts()] == [RolloutState.ABORTED, RolloutState.COMPLETED]
    assert world.on(new) == 1, "the bot that went back is not tried again by itself"


def test_a_release_that_hurts_some_is_aborted_at_the_threshold(world: World) -> None:
    bots = world.add_bots(20)
    world.push("2.0.0")

    world.run(lambda bot: "good" if bot.id == bots[0] else "bad")

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    counts = world.count(rollout.id)
    assert counts["updated"] == 1
    assert 3 <= counts["rolled_back"] <= 5
    assert sum(counts.values()) == 20


def test_looking_twice_changes_nothing(world: World) -> None:
    world.add_bots(5)
    world.push("2.0.0")

    first = world.tick()
    before = _rows(world)

    assert world.tick() == first
    assert _rows(world) == before
    assert len(world.rollouts()) == 1


def test_a_node_works_on_at_most_two_bots_at_once(world: World) -> None:
    world.add_bots(6)
    world.start(world.push("2.0.0"), strategy=StrategyName.IMMEDIATE)

    first = world.tick()
    for update_id in first:
        world.begin(update_id)

    assert len(first) == 2
    assert _begun_or_due(world, world.tick()) == set(first)


def test_bots_wait_for_the_hour_of_their_organization(world: World) -> None:
    world.add_bots(2)
    late = world.add_bots(3, hour=5)
    new = world.push("2.0.0")

    world.run()
    [rollout] = world.rollouts()
    assert (rollout.state, world.on(new)) == (RolloutState.RUNNING, 2)
    with world.database.reading() as session:
        summary = progress.summarize(session, session.get_one(Rollout, rollout.id), world.now)
    assert summary.next_window is not None
    assert summary.next_window.hour == 5
    assert summary.waits == ("3 bots waiting for the hour of day chosen for updates",)

    world.now = world.now.replace(hour=5, minute=0)
    world.run()
    assert world.on(new) == 2 + len(late)
    assert world.rollout(rollout.id).state is RolloutState.COMPLETED


def test_a_bot_that_missed_the_end_of_its_hour_waits_for_the_next_day(world: World) -> None:
    world.add_bots(1)
    new = world.push("2.0.0")
    [due] = world.tick()

    world.now = world.now.replace(hour=4, minute=0)
    assert world.tick() == []
    world.begin(due)  # the old message reaches a worker only now

    assert world.on(new) == 0
    assert _states(world) == {UpdateState.PENDING}
    world.now += timedelta(hours=23)
    assert world.tick() == [due]


def test_manual_organizations_and_those_that_said_nothing_are_left_alone(world: World) -> None:
    world.add_bots(2, mode=TenantMode.MANUAL)
    world.add_bots(1, mode=None)
    world.push("2.0.0")

    assert world.tick() == []
    assert world.rollouts() == []


def test_an_organization_that_turns_automatic_joins_the_open_rollout(world: World) -> None:
    world.add_bots(2, hour=5)
    [joins] = world.add_bots(1, mode=TenantMode.MANUAL, hour=5)
    world.push("2.0.0")
    world.tick()
    _set_tenant(world, joins, TenantMode.AUTO)

    world.tick()

    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"pending": 3}


def test_an_organization_that_turns_manual_leaves_and_may_come_back(world: World) -> None:
    world.add_bots(1, hour=5)
    [leaves] = world.add_bots(1, hour=5)
    world.push("2.0.0")
    world.tick()
    [rollout] = world.rollouts()

    _set_tenant(world, leaves, TenantMode.MANUAL)
    world.tick()
    assert world.count(rollout.id) == {"pending": 1, "no longer eligible": 1}

    _set_tenant(world, leaves, TenantMode.AUTO)
    world.tick()
    assert world.count(rollout.id) == {"pending": 2}


def test_a_paused_fleet_starts_nothing_and_goes_on_when_unpaused(world: World) -> None:
    world.add_bots(3)
    new = world.push("2.0.0")
    world.set_mode(FleetMode.PAUSED)
    world.run()
    assert world.rollouts() == []

    world.set_mode(FleetMode.AUTO)
    due = world.tick()
    world.set_mode(FleetMode.PAUSED)
    world.work(due)
    assert world.tick() == []
    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"pending": 3}

    world.set_mode(FleetMode.AUTO)
    world.run()
    assert world.on(new) == 3


def test_a_manual_fleet_opens_no_rollout_by_itself(world: World) -> None:
    world.add_bots(3)
    world.set_mode(FleetMode.MANUAL)
    world.push("2.0.0")

    world.run()

    assert world.rollouts() == []


def test_a_newer_release_supersedes_what_has_not_begun(world: World) -> None:
    world.add_bots(5)
    world.push("2.0.0")
    [canary] = world.tick()
    world.begin(canary)
    newest = world.push("3.0.0")

    world.tick()
    world.end(canary)
    world.run()

    old, new = world.rollouts()
    assert old.state is RolloutState.SUPERSEDED
    assert world.count(old.id) == {"updated": 1, "superseded": 4}
    assert new.state is RolloutState.COMPLETED
    assert world.on(newest) == 5
    assert _sizes(world, new.id)[0] == 1


def test_a_bot_is_tried_again_only_after_what_the_last_attempt_left_is_gone(world: World) -> None:
    world.add_bots(1)
    world.push("2.0.0")
    [update_id] = world.tick()
    world.work([update_id], lambda _bot: "transient")
    # The worker died before it had removed archives and containers.
    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).cleaned_at = None

    assert world.tick() == [update_id]  # for a worker to remove them
    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"failed": 1}

    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).cleaned_at = world.now
    world.tick()
    assert world.count(rollout.id) == {"pending": 1}
    assert world.rollout(rollout.id).state is RolloutState.RUNNING


def test_a_stopped_bot_is_left_out_and_due_again_once_it_is_seen_running(world: World) -> None:
    world.add_bots(1, hour=5)
    [sleeper] = world.add_bots(1, hour=5)
    new = world.push("2.0.0")
    world.tick()
    [rollout] = world.rollouts()

    world.change(Bot, sleeper, state=BotState.STOPPED, desired_state=DesiredState.STOPPED)
    world.tick()
    assert world.count(rollout.id) == {"pending": 1, "stopped": 1}

    world.change(Bot, sleeper, state=BotState.RUNNING, desired_state=DesiredState.RUNNING)
    world.tick()
    assert world.count(rollout.id) == {"pending": 1, "stopped": 1}, "nobody has seen it running yet"

    world.change(Bot, sleeper, checked_at=world.now + timedelta(seconds=15))
    world.now = world.now.replace(hour=5)
    world.run()
    assert world.on(new) == 2


def test_bots_on_a_node_that_is_away_wait_for_it(world: World) -> None:
    world.add_bots(2)
    new = world.push("2.0.0")
    world.change(Node, world.node_id, state=NodeState.DRAINING)
    world.start(new)
    world.run()
    assert world.on(new) == 0

    world.change(Node, world.node_id, state=NodeState.ACTIVE)
    world.run()
    assert world.on(new) == 2


def test_a_bot_that_failed_on_a_release_is_not_tried_again_by_itself(world: World) -> None:
    bots = world.add_bots(6)
    new = world.push("2.0.0")

    world.run(lambda bot: "bad" if bot.id == bots[-1] else "good")
    world.run()

    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"updated": 5, "rolled_back": 1}
    assert world.on(new) == 5


def test_an_engine_that_was_away_is_tried_again_and_then_left_without_blaming_the_release(world: World) -> None:
    world.add_bots(1)
    new = world.push("2.0.0")

    for _ in range(4):
        world.run(lambda _bot: "transient")
        world.now += timedelta(minutes=5)

    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"failed": 1}
    assert rollout.state is RolloutState.COMPLETED
    with world.database.reading() as session:
        assert session.scalar(sa.select(BotUpdate.attempt)) == 3
        assert session.get_one(Release, new).quarantined_at is None


def test_bots_in_flight_without_progress_pause_the_rollout(world: World) -> None:
    world.add_bots(3)
    world.push("2.0.0")
    [canary] = world.tick()
    world.begin(canary)
    world.now += timedelta(minutes=11)

    world.tick()

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.PAUSED
    assert rollout.reason == "no step finished for 10 minutes"
    assert world.events()[-1] == "rollout.paused"


def falls_ill(world: World, bot: str) -> datetime:
    """Let a bot be seen down a moment after its update; since when."""
    world.now += timedelta(seconds=15)
    world.change(Bot, bot, state=BotState.UNHEALTHY, state_since=world.now, checked_at=world.now)
    return world.now


def test_a_canary_that_stays_down_after_its_update_ends_the_rollout(world: World) -> None:
    first, *_ = world.add_bots(4)
    new = world.push("2.0.0")
    world.work(world.tick())
    since = falls_ill(world, first)

    while world.now < since + HEALTH_CHECK_TIMEOUT:
        assert world.tick() == [], "nothing is built on a bot that is down"
        assert world.rollouts()[0].state is RolloutState.RUNNING, "it may come back"
        world.now += timedelta(seconds=15)
        world.change(Bot, first, checked_at=world.now)
    world.tick()

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    assert world.count(rollout.id) == {"updated": 1, "quarantined": 3}
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is not None


def test_a_node_that_restarts_is_no_fault_of_the_release(world: World) -> None:
    first, *_ = world.add_bots(4)
    new = world.push("2.0.0")
    world.work(world.tick())
    since = falls_ill(world, first)
    world.now += timedelta(seconds=90)
    world.change(Bot, first, checked_at=world.now)
    assert world.tick() == []

    world.change(Bot, first, state=BotState.RUNNING, state_since=since + timedelta(seconds=100))
    world.run()

    assert world.rollouts()[0].state is RolloutState.COMPLETED
    assert world.on(new) == 4


def test_a_bot_nobody_can_look_at_any_more_holds_nobody_up(world: World) -> None:
    first, *_ = world.add_bots(4)
    world.push("2.0.0")
    world.work(world.tick())
    falls_ill(world, first)

    world.now += timedelta(minutes=5)

    assert len(world.tick()) == 1


def test_a_quarantine_ends_open_rollouts_of_the_release(world: World) -> None:
    world.add_bots(4, hour=5)
    new = world.push("2.0.0")
    world.tick()
    with world.database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, new), "loses notes", None)

    world.run()

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    assert world.count(rollout.id) == {"quarantined": 4}


def test_an_update_whose_worker_died_is_handed_to_another(world: World) -> None:
    [bot] = world.add_bots(1)
    world.push("2.0.0")
    [update_id] = world.tick()
    world.begin(update_id)

    world.change(Bot, bot, lease_owner="somebody", lease_until=utcnow() + timedelta(minutes=5))
    assert world.tick() == []
    world.change(Bot, bot, lease_until=utcnow() - timedelta(seconds=1))
    assert world.tick() == [update_id]


def test_an_aborted_rollout_still_has_its_dead_workers_replaced(world: World) -> None:
    [bot] = world.add_bots(1)
    rollout_id = world.start(world.push("2.0.0"))
    [update_id] = world.tick()
    world.begin(update_id)
    with world.database.transaction() as session:
        transitions.abort_rollout(session, session.get_one(Rollout, rollout_id), "enough", None)
    world.change(Bot, bot, lease_until=utcnow() - timedelta(seconds=1))

    assert world.tick() == [update_id]


def test_rolling_back_is_not_undone_by_the_next_look(world: World) -> None:
    world.add_bots(4)
    new = world.push("2.0.0")
    world.run()
    with world.database.transaction() as session:
        rollouts.roll_back_fleet(
            session,
            ALLOWLIST,
            release=session.get_one(Release, world.first),
            reason="2.0.0 is slow",
            actor=None,
        )

    world.run()

    assert (world.on(new), world.on(world.first)) == (0, 4)
    assert world.rollouts()[-1].state is RolloutState.COMPLETED


def test_an_operators_rollout_to_automatic_bots_leaves_the_others_alone(world: World) -> None:
    world.set_mode(FleetMode.AUTO)
    world.add_bots(2, hour=5)
    world.add_bots(2, mode=TenantMode.MANUAL)
    new = world.push("2.0.0")
    world.start(new, audience=Audience.AUTOMATIC)

    world.run()

    assert world.on(new) == 2


def test_events_of_a_rollout_carry_release_and_rollout(world: World) -> None:
    world.add_bots(1)
    world.push("2.0.0")
    world.run()

    with world.database.reading() as session:
        [started, completed] = session.scalars(sa.select(Event).order_by(Event.id))
        assert started.rollout_id == completed.rollout_id == world.rollouts()[0].id
        assert started.data["version"] == completed.data["version"] == "2.0.0"


def _set_tenant(world: World, bot_id: str, mode: TenantMode) -> None:
    with world.database.reading() as session:
        org_id = session.get_one(Bot, bot_id).org_id
    world.change(TenantUpdateConfig, org_id, mode=mode)


def _sizes(world: World, rollout_id: str) -> list[int]:
    with world.database.reading() as session:
        summary = progress.summarize(session, session.get_one(Rollout, rollout_id), world.now)
        return [len(wave.updates) for wave in summary.waves]


def _states(world: World) -> set[UpdateState]:
    with world.database.reading() as session:
        return set(session.scalars(sa.select(BotUpdate.state)))


def _rows(world: World) -> list[tuple[str, UpdateState, int | None]]:
    with world.database.reading() as session:
        query = sa.select(BotUpdate.id, BotUpdate.state, BotUpdate.wave).order_by(BotUpdate.id)
        return [(key, state, wave) for key, state, wave in session.execute(query)]


def _begun_or_due(world: World, due: list[str]) -> set[str]:
    with world.database.reading() as session:
        running = session.scalars(sa.select(BotUpdate.id).where(BotUpdate.state == UpdateState.RUNNING))
        return {*running, *due}


def test_one_rollout_that_cannot_go_on_stops_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    other = IMAGE.replace("stable", "beta")
    world.add_bots(1)
    world.add_bots(1, image=other)
    broken, well = world.push("2.0.0"), world.push("3.0.0", image=other)
    rollout_id = world.start(broken)
    _set_parameters(world, rollout_id, {"percentage": "many"})

    world.run()

    assert (world.on(broken), world.on(well)) == (0, 1)
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert rollout_id in told.message
    assert told.exc_info

    _set_parameters(world, rollout_id, {})
    world.run()
    assert world.on(broken) == 1


def _set_parameters(world: World, rollout_id: str, parameters: dict[str, Any]) -> None:
    with world.database.transaction() as session:
        session.get_one(Rollout, rollout_id).parameters = parameters


def test_what_was_written_under_a_lost_key_holds_nothing_up(world: World) -> None:
    (bot_id,) = world.add_bots(1, provision_secret="secret")
    world.push("2.0.0")
    (update_id,) = world.tick()
    world.begin(update_id)
    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).saved_container = {"Id": "old"}
        session.get_one(Bot, bot_id).lease_until = None

    use_keys("a key that came after the one which was lost")

    assert world.tick() == [update_id]
