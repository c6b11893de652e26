"""The orchestrator on a real database, with workers that only record outcomes."""

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
    Step,
    TenantMode,
    TenantUpdateConfig,
    Trigger,
    UpdateState,
    utcnow,
)
from portal.models.encrypted import use_keys
from portal.rules.health_check_timeout import HEALTH_CHECK_TIMEOUT
from portal.rules.strategies import StrategyName
from portal.services.releases import releases
from portal.services.rollouts import progress, rollouts, transitions
from tests.support.world import ALLOWLIST, HOUR, IMAGE, World, bad


def test_a_new_release_reaches_every_automatic_bot_in_waves(world: World) -> None:
    world.add_bots(9)
    new = world.push("2.0.0")

    world.run()

    [rollout] = world.rollouts()
    assert (rollout.state, rollout.trigger) == (RolloutState.COMPLETED, Trigger.AUTO)
    assert world.count(rollout.id) == {"updated": 9}
    assert world.count_running(new) == 9
    assert count_wave_sizes(world, rollout.id) == [1, 2, 2, 2, 2]
    assert world.events() == ["rollout.started", "rollout.completed"]


def test_without_a_new_release_no_rollout_opens(world: World) -> None:
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


def test_a_canary_without_a_snapshot_aborts_the_rollout_without_quarantine(world: World) -> None:
    world.add_bots(4)
    new = world.push("2.0.0")

    world.run(lambda _bot: "no snapshot")

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is None


def test_after_a_lifted_quarantine_automatic_updates_start_again(world: World) -> None:
    world.add_bots(2)
    new = world.push("2.0.0")
    world.run(bad)

    with world.database.transaction() as session:
        releases.lift_quarantine(
            session, session.get_one(Release, new), "the registry was down", world.now, actor=None
        )
    world.run()

    assert [rollout.state for rollout in world.rollouts()] == [RolloutState.ABORTED, RolloutState.COMPLETED]
    assert world.count_running(new) == 1, "the bot that was rolled back is not retried automatically"


def test_failures_abort_the_rollout_at_the_threshold(world: World) -> None:
    bots = world.add_bots(20)
    world.push("2.0.0")

    world.run(lambda bot: "good" if bot.id == bots[0] else "bad")

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    counts = world.count(rollout.id)
    assert counts["updated"] == 1
    assert 3 <= counts["rolled_back"] <= 5
    assert sum(counts.values()) == 20


def test_a_second_tick_changes_nothing(world: World) -> None:
    world.add_bots(5)
    world.push("2.0.0")

    first = world.tick()
    before = list_rows(world)

    assert world.tick() == first
    assert list_rows(world) == before
    assert len(world.rollouts()) == 1


def test_a_node_updates_at_most_two_bots_in_parallel(world: World) -> None:
    world.add_bots(6)
    world.start(world.push("2.0.0"), strategy=StrategyName.IMMEDIATE)

    first = world.tick()
    for update_id in first:
        world.begin(update_id)

    assert len(first) == 2
    assert list_running_or_due(world, world.tick()) == set(first)


def test_bots_wait_for_the_window_of_their_organization(world: World) -> None:
    world.add_bots(2)
    late = world.add_bots(3, hour=5)
    new = world.push("2.0.0")

    world.run()
    [rollout] = world.rollouts()
    assert (rollout.state, world.count_running(new)) == (RolloutState.RUNNING, 2)
    with world.database.reading() as session:
        waiting = progress.explain_waiting(session, session.get_one(Rollout, rollout.id), world.now, None)
    assert waiting.next_window is not None
    assert waiting.next_window.hour == 5
    assert waiting.reasons == ("3 bots waiting for the update hour of their organization",)

    world.now = world.now.replace(hour=5, minute=0)
    world.run()
    assert world.count_running(new) == 2 + len(late)
    assert world.rollout(rollout.id).state is RolloutState.COMPLETED


def test_a_bot_that_missed_its_window_waits_for_the_next_day(world: World) -> None:
    world.add_bots(1)
    new = world.push("2.0.0")
    [due] = world.tick()

    world.now = world.now.replace(hour=4, minute=0)
    assert world.tick() == []
    world.begin(due)  # the job of the first tick runs late

    assert world.count_running(new) == 0
    assert list_states(world) == {UpdateState.PENDING}
    world.now += timedelta(hours=23)
    assert world.tick() == [due]


def test_manual_organizations_and_those_without_preferences_are_not_updated(world: World) -> None:
    world.add_bots(2, mode=TenantMode.MANUAL)
    world.add_bots(1, mode=None)
    world.push("2.0.0")

    assert world.tick() == []
    assert world.rollouts() == []


def test_an_organization_that_changes_to_automatic_joins_the_open_rollout(world: World) -> None:
    world.add_bots(2, hour=5)
    [joining] = world.add_bots(1, mode=TenantMode.MANUAL, hour=5)
    world.push("2.0.0")
    world.tick()
    set_tenant_mode(world, joining, TenantMode.AUTO)

    world.tick()

    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"pending": 3}


def test_an_organization_that_changes_to_manual_leaves_and_can_join_again(world: World) -> None:
    world.add_bots(1, hour=5)
    [leaving] = world.add_bots(1, hour=5)
    world.push("2.0.0")
    world.tick()
    [rollout] = world.rollouts()

    set_tenant_mode(world, leaving, TenantMode.MANUAL)
    world.tick()
    assert world.count(rollout.id) == {"pending": 1, "no longer eligible": 1}

    set_tenant_mode(world, leaving, TenantMode.AUTO)
    world.tick()
    assert world.count(rollout.id) == {"pending": 2}


def test_a_paused_fleet_starts_nothing_until_it_is_resumed(world: World) -> None:
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
    assert world.count_running(new) == 3


def test_a_manual_fleet_opens_no_automatic_rollout(world: World) -> None:
    world.add_bots(3)
    world.set_mode(FleetMode.MANUAL)
    world.push("2.0.0")

    world.run()

    assert world.rollouts() == []


def test_a_newer_release_supersedes_pending_updates(world: World) -> None:
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
    assert world.count_running(newest) == 5
    assert count_wave_sizes(world, new.id)[0] == 1


def test_a_bot_is_retried_only_after_the_last_attempt_is_cleaned_up(world: World) -> None:
    world.add_bots(1)
    world.push("2.0.0")
    [update_id] = world.tick()
    world.work([update_id], lambda _bot: "transient")
    # The worker died before it removed archives and containers.
    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).cleaned_at = None

    assert world.tick() == [update_id]  # for the cleanup by a worker
    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"failed": 1}

    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).cleaned_at = world.now
    world.tick()
    assert world.count(rollout.id) == {"pending": 1}
    assert world.rollout(rollout.id).state is RolloutState.RUNNING


def test_a_stopped_bot_is_skipped_until_it_is_seen_running(world: World) -> None:
    world.add_bots(1, hour=5)
    [stopped] = world.add_bots(1, hour=5)
    new = world.push("2.0.0")
    world.tick()
    [rollout] = world.rollouts()

    world.change(Bot, stopped, state=BotState.STOPPED, desired_state=DesiredState.STOPPED)
    world.tick()
    assert world.count(rollout.id) == {"pending": 1, "stopped": 1}

    world.change(Bot, stopped, state=BotState.RUNNING, desired_state=DesiredState.RUNNING)
    world.tick()
    assert world.count(rollout.id) == {"pending": 1, "stopped": 1}, "the bot was not seen running yet"

    world.change(Bot, stopped, checked_at=world.now + timedelta(seconds=15))
    world.now = world.now.replace(hour=5)
    world.run()
    assert world.count_running(new) == 2


def test_bots_on_a_draining_node_wait(world: World) -> None:
    world.add_bots(2)
    new = world.push("2.0.0")
    world.change(Node, world.node_id, state=NodeState.DRAINING)
    world.start(new)
    world.run()
    assert world.count_running(new) == 0

    world.change(Node, world.node_id, state=NodeState.ACTIVE)
    world.run()
    assert world.count_running(new) == 2


def test_a_bot_that_failed_on_a_release_is_not_retried_automatically(world: World) -> None:
    bots = world.add_bots(6)
    new = world.push("2.0.0")

    world.run(lambda bot: "bad" if bot.id == bots[-1] else "good")
    world.run()

    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"updated": 5, "rolled_back": 1}
    assert world.count_running(new) == 5


def test_transient_failures_are_retried_and_never_quarantine_the_release(world: World) -> None:
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


def test_an_interrupted_bot_is_tried_again_at_its_next_update_hour(world: World) -> None:
    bots = world.add_bots(2)
    new = world.push("2.0.0")
    interrupted = {bots[1]}

    def work(bot: Bot) -> str:
        return "transient" if bot.id in interrupted else "good"

    for _ in range(4):
        world.run(work)
        world.now += timedelta(minutes=5)
    assert [rollout.state for rollout in world.rollouts()] == [RolloutState.COMPLETED]
    assert world.count_running(new) == 1

    interrupted.clear()
    world.run(work)
    assert world.count_running(new) == 1, "not in the same hour again"
    world.now += timedelta(days=1)
    world.run(work)
    assert world.count_running(new) == 2
    assert [rollout.state for rollout in world.rollouts()] == [RolloutState.COMPLETED] * 2


def test_an_interrupted_bot_is_tried_again_while_its_rollout_is_open(world: World) -> None:
    [first] = world.add_bots(1)
    world.add_bots(1, hour=HOUR + 12)  # it waits, so the rollout stays open
    world.push("2.0.0")
    for _ in range(4):
        world.run(lambda _bot: "transient")
        world.now += timedelta(minutes=5)
    [rollout] = world.rollouts()
    assert world.count(rollout.id) == {"failed": 1, "pending": 1}

    world.now += timedelta(days=1)
    world.run()
    assert world.count(rollout.id) == {"updated": 1, "pending": 1}
    with world.database.reading() as session:
        assert session.get_one(Bot, first).current_digest in session.get_one(Release, rollout.release_id).digests


def test_a_stalled_rollout_is_paused(world: World) -> None:
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


@pytest.mark.parametrize("step", [Step.PREFLIGHT, Step.BASE])
def test_large_volumes_do_not_stall_a_rollout_while_a_worker_handles_them(world: World, step: Step) -> None:
    [bot] = world.add_bots(1)
    world.push("2.0.0")
    [update_id] = world.tick()
    world.begin(update_id)
    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).timings = {step: [world.now.isoformat()]}
    world.now += timedelta(minutes=29)
    world.change(Bot, bot, lease_until=world.now + timedelta(seconds=5))
    world.tick()
    assert world.rollouts()[0].state is RolloutState.RUNNING

    # The worker dies, and there is no other one.
    world.now += timedelta(minutes=11)
    world.tick()
    assert world.rollouts()[0].state is RolloutState.PAUSED


def make_unhealthy(world: World, bot: str) -> datetime:
    """Make a bot unhealthy shortly after its update, and return the moment."""
    world.now += timedelta(seconds=15)
    world.change(Bot, bot, state=BotState.UNHEALTHY, state_since=world.now, checked_at=world.now)
    return world.now


def test_a_canary_that_stays_down_after_its_update_aborts_the_rollout(world: World) -> None:
    first, *_ = world.add_bots(4)
    new = world.push("2.0.0")
    world.work(world.tick())
    since = make_unhealthy(world, first)

    while world.now < since + HEALTH_CHECK_TIMEOUT:
        assert world.tick() == [], "no wave starts while the canary is down"
        assert world.rollouts()[0].state is RolloutState.RUNNING, "the canary may recover"
        world.now += timedelta(seconds=15)
        world.change(Bot, first, checked_at=world.now)
    world.tick()

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    assert world.count(rollout.id) == {"updated": 1, "quarantined": 3}
    with world.database.reading() as session:
        assert session.get_one(Release, new).quarantined_at is not None


def test_a_canary_may_be_down_for_as_long_as_the_setting_allows_a_health_check_to_take(world: World) -> None:
    world.health_check_timeout = 5 * HEALTH_CHECK_TIMEOUT
    first, *_ = world.add_bots(4)
    world.push("2.0.0")
    world.work(world.tick())
    since = make_unhealthy(world, first)

    states = []
    for down in (HEALTH_CHECK_TIMEOUT, 4 * HEALTH_CHECK_TIMEOUT, 5 * HEALTH_CHECK_TIMEOUT):
        world.now = since + down
        world.change(Bot, first, checked_at=world.now)
        world.tick()
        states.append(world.rollouts()[0].state)

    assert states == [RolloutState.RUNNING, RolloutState.RUNNING, RolloutState.ABORTED]


def test_a_canary_that_recovers_does_not_abort_the_rollout(world: World) -> None:
    first, *_ = world.add_bots(4)
    new = world.push("2.0.0")
    world.work(world.tick())
    since = make_unhealthy(world, first)
    world.now += timedelta(seconds=90)
    world.change(Bot, first, checked_at=world.now)
    assert world.tick() == []

    world.change(Bot, first, state=BotState.RUNNING, state_since=since + timedelta(seconds=100))
    world.run()

    assert world.rollouts()[0].state is RolloutState.COMPLETED
    assert world.count_running(new) == 4


def test_a_bot_that_is_no_longer_checked_does_not_block_the_next_wave(world: World) -> None:
    first, *_ = world.add_bots(4)
    world.push("2.0.0")
    world.work(world.tick())
    make_unhealthy(world, first)

    world.now += timedelta(minutes=5)

    assert len(world.tick()) == 1


def test_a_quarantine_aborts_open_rollouts_of_the_release(world: World) -> None:
    world.add_bots(4, hour=5)
    new = world.push("2.0.0")
    world.tick()
    with world.database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, new), "loses notes", world.now, actor=None)

    world.run()

    [rollout] = world.rollouts()
    assert rollout.state is RolloutState.ABORTED
    assert world.count(rollout.id) == {"quarantined": 4}


def test_an_update_whose_worker_died_is_due_for_another_worker(world: World) -> None:
    [bot] = world.add_bots(1)
    world.push("2.0.0")
    [update_id] = world.tick()
    world.begin(update_id)

    world.change(Bot, bot, lease_owner="a worker", lease_until=utcnow() + timedelta(minutes=5))
    assert world.tick() == []
    world.change(Bot, bot, lease_until=utcnow() - timedelta(seconds=1))
    assert world.tick() == [update_id]


def test_an_update_of_a_dead_worker_is_due_even_in_an_aborted_rollout(world: World) -> None:
    [bot] = world.add_bots(1)
    rollout_id = world.start(world.push("2.0.0"))
    [update_id] = world.tick()
    world.begin(update_id)
    with world.database.transaction() as session:
        transitions.abort_rollout(session, session.get_one(Rollout, rollout_id), "enough", world.now, actor=None)
    world.change(Bot, bot, lease_until=utcnow() - timedelta(seconds=1))

    assert world.tick() == [update_id]


def test_the_next_tick_does_not_undo_a_fleet_rollback(world: World) -> None:
    world.add_bots(4)
    new = world.push("2.0.0")
    world.run()
    with world.database.transaction() as session:
        rollouts.roll_back_fleet(
            session,
            ALLOWLIST,
            world.now,
            release=session.get_one(Release, world.first),
            reason="2.0.0 is slow",
            actor=None,
        )

    world.run()

    assert (world.count_running(new), world.count_running(world.first)) == (0, 4)
    assert world.rollouts()[-1].state is RolloutState.COMPLETED


def test_an_operators_rollout_to_automatic_bots_does_not_update_manual_ones(world: World) -> None:
    world.set_mode(FleetMode.AUTO)
    world.add_bots(2, hour=5)
    world.add_bots(2, mode=TenantMode.MANUAL)
    new = world.push("2.0.0")
    world.start(new, audience=Audience.AUTOMATIC)

    world.run()

    assert world.count_running(new) == 2


def test_events_of_a_rollout_name_release_and_rollout(world: World) -> None:
    world.add_bots(1)
    world.push("2.0.0")
    world.run()

    with world.database.reading() as session:
        [started, completed] = session.scalars(sa.select(Event).order_by(Event.id))
        assert started.rollout_id == completed.rollout_id == world.rollouts()[0].id
        assert started.data["version"] == completed.data["version"] == "2.0.0"


def set_tenant_mode(world: World, bot_id: str, mode: TenantMode) -> None:
    with world.database.reading() as session:
        org_id = session.get_one(Bot, bot_id).org_id
    world.change(TenantUpdateConfig, org_id, mode=mode)


def count_wave_sizes(world: World, rollout_id: str) -> list[int]:
    with world.database.reading() as session:
        waves = progress.list_waves(session, session.get_one(Rollout, rollout_id), 100)
        return [sum(counts.values()) for counts in waves.values()]


def list_states(world: World) -> set[UpdateState]:
    with world.database.reading() as session:
        return set(session.scalars(sa.select(BotUpdate.state)))


def list_rows(world: World) -> list[tuple[str, UpdateState, int | None]]:
    with world.database.reading() as session:
        query = sa.select(BotUpdate.id, BotUpdate.state, BotUpdate.wave).order_by(BotUpdate.id)
        return [(key, state, wave) for key, state, wave in session.execute(query)]


def list_running_or_due(world: World, due: list[str]) -> set[str]:
    with world.database.reading() as session:
        running = session.scalars(sa.select(BotUpdate.id).where(BotUpdate.state == UpdateState.RUNNING))
        return {*running, *due}


def test_an_error_in_one_rollout_does_not_stop_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    other = IMAGE.replace("stable", "beta")
    world.add_bots(1)
    world.add_bots(1, image=other)
    broken, working = world.push("2.0.0"), world.push("3.0.0", image=other)
    rollout_id = world.start(broken)
    set_parameters(world, rollout_id, {"percentage": "many"})

    world.run()

    assert (world.count_running(broken), world.count_running(working)) == (0, 1)
    (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert rollout_id in logged.message
    assert logged.exc_info

    set_parameters(world, rollout_id, {})
    world.run()
    assert world.count_running(broken) == 1


def set_parameters(world: World, rollout_id: str, parameters: dict[str, Any]) -> None:
    with world.database.transaction() as session:
        session.get_one(Rollout, rollout_id).parameters = parameters


def test_data_encrypted_with_a_lost_key_does_not_block_a_takeover(world: World) -> None:
    (bot_id,) = world.add_bots(1, provision_secret="secret")
    world.push("2.0.0")
    (update_id,) = world.tick()
    world.begin(update_id)
    with world.database.transaction() as session:
        session.get_one(BotUpdate, update_id).saved_container = {"Id": "old"}
        session.get_one(Bot, bot_id).lease_until = None

    use_keys("a new key after the old one was lost")

    assert world.tick() == [update_id]
