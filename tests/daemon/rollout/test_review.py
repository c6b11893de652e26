"""What a tick reads: it leads to the same decisions as a list of all bots, with few statements and without a lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from daemon.rollout import review
from portal.models import Audience, Bot, BotUpdate, Node, Release, Rollout, SkipReason, Trigger, UpdateState
from portal.rules.planner import RolloutSnapshot, plan
from portal.services.rollouts import eligibility
from portal.services.rollouts.eligibility_changes import EligibilityChanges, find_changes
from portal.services.rollouts.fleet_facts import FleetFacts, load_fleet
from portal.services.rollouts.waiting_bots import StoredWaitingBots
from tests import factories
from tests.support import listed_planner_input
from tests.support.random_rollouts import RandomRollout
from tests.support.statements import counted_statements
from tests.support.world import IMAGE, World

ROUNDS = 60
IMAGES = [IMAGE, IMAGE.replace("stable", "beta"), IMAGE.replace("stable", "unknown")]
"""The images of the bots. The tag `beta` points at another release, and the last image was never polled."""


@dataclass
class Scene:
    """The rows that a round changes at random. The end of the round undoes its changes."""

    session: Session
    random: RandomRollout
    rollout: Rollout
    elsewhere: Rollout
    bots: Sequence[Bot]
    nodes: Sequence[Node]


def play_rounds(world: World) -> Iterator[tuple[int, Scene]]:
    """Yield scenes, each in a transaction that is rolled back afterwards."""
    world.add_bots(20)
    new, other = world.push("2.0.0"), world.push("3.0.0", image=IMAGES[1])
    with world.database.transaction() as session:
        factories.node(session, "two")
        rollout_id = factories.rollout(session, session.get_one(Release, new)).id
        other_id = factories.rollout(session, session.get_one(Release, other), state="running").id
    for seed in range(ROUNDS):
        with world.database.transaction() as session:
            yield (
                seed,
                Scene(
                    session,
                    RandomRollout(session, seed, world.now),
                    session.get_one(Rollout, rollout_id),
                    session.get_one(Rollout, other_id),
                    session.scalars(sa.select(Bot).options(joinedload(Bot.org)).order_by(Bot.created_at)).all(),
                    session.scalars(sa.select(Node).order_by(Node.name)).all(),
                ),
            )
            session.rollback()


def list_digests(scene: Scene) -> list[str]:
    return list(scene.session.scalars(sa.select(Release.digest).order_by(Release.first_seen_at)))


@pytest.mark.slow
def test_the_planner_decides_the_same_as_from_a_list_of_all_bots(world: World) -> None:
    kinds = set()
    for seed, scene in play_rounds(world):
        scene.random.change_rollout(scene.rollout)
        scene.random.change_fleet(scene.bots, scene.nodes)
        scene.random.change_health(scene.bots, scene.nodes, list_digests(scene))
        scene.random.add_updates(scene.rollout, scene.elsewhere, scene.bots)
        fleet = load_fleet(scene.session, world.now, None)

        found = review.review_again(scene.session, scene.rollout, fleet)
        decisions, nodes = found.decide(scene.session, fleet.count_running_per_node())

        snapshot = build_from_list(scene, world)
        assert decisions == plan(snapshot, world.now), f"seed {seed}"
        stored = StoredWaitingBots(scene.session, scene.rollout, fleet, found.facts)
        counts = {reason: number for reason, number in stored.count_by_reason().items() if number}
        assert counts == snapshot.waiting.count_by_reason(), f"seed {seed}"
        assert {update.node_id for update in review.list_due(decisions, nodes)} <= fleet.active_nodes
        kinds |= {type(decision).__name__ for decision in decisions} or {"nothing"}
    assert kinds == {"nothing", "StartWave", "Requeue", "Retry", "Start", "Pause", "Abort", "Complete"}


def build_from_list(scene: Scene, world: World) -> RolloutSnapshot:
    planned = listed_planner_input.load_updates(scene.session, scene.rollout)
    targets = listed_planner_input.build_targets(
        scene.session, scene.rollout, planned, world.now, health_check_timeout=None
    )
    return listed_planner_input.build_snapshot(scene.session, scene.rollout, targets)


@pytest.mark.slow
def test_changes_are_the_same_as_from_a_list_of_all_bots(world: World) -> None:
    reasons: set[object] = set()
    for seed, scene in play_rounds(world):
        scene.random.change_audience(scene.rollout)
        scene.random.change_fleet(scene.bots, scene.nodes)
        scene.random.change_health(scene.bots, scene.nodes, list_digests(scene)[:2])
        scene.random.change_eligibility(scene.bots, IMAGES)
        scene.random.add_updates(scene.rollout, scene.elsewhere, scene.bots)
        fleet = load_fleet(scene.session, world.now, None)

        changes = find_changes(scene.session, [scene.rollout], {scene.rollout.id}, fleet)[scene.rollout.id]
        joining = [
            *eligibility.list_joinable(scene.session, fleet, scene.rollout.release, 100, scene.rollout),
            *eligibility.list_rejoinable(scene.session, fleet, scene.rollout, 100),
        ]

        expected = list_changes(scene, fleet)
        assert {reason: sorted(ids) for reason, ids in changes.ineligible.items()} == expected.ineligible, seed
        assert sorted(changes.restarted) == sorted(expected.restarted), seed
        if scene.rollout.trigger is Trigger.AUTO:
            assert sorted(joining) == list_joining(scene, fleet), seed
            reasons |= {"joining"} if joining else set()
        reasons |= changes.ineligible.keys() | ({"restarted"} if changes.restarted else set())
    skipped = set(SkipReason) - {SkipReason.TAKEN_BY_HAND, SkipReason.QUARANTINED, SkipReason.ABORTED}
    assert reasons == {*skipped, "restarted", "joining"}


def list_changes(scene: Scene, fleet: FleetFacts) -> EligibilityChanges:
    """Apply the rules to every bot of the rollout."""
    changes, rollout = EligibilityChanges(), scene.rollout
    for entry in listed_planner_input.load_updates(scene.session, rollout):
        reason = eligibility.exclusion_reason(entry.candidate, rollout.release, rollout.audience)
        update, bot = entry.update, entry.candidate.bot
        is_starting = reason is SkipReason.STOPPED and bot.is_being_started
        was_checked = bot.checked_at and update.ended_at and bot.checked_at > update.ended_at
        if update.skip_reason is SkipReason.STOPPED and (is_starting or (reason is None and was_checked)):
            changes.restarted.append(update.id)
        reason = None if is_starting else reason
        if update.state is UpdateState.PENDING:
            if rollout.trigger is Trigger.AUTO and reason is None:
                target = fleet.targets.get(bot.image)
                reason = None if target is not None and target.id == rollout.release_id else SkipReason.SUPERSEDED
            if reason is not None:
                changes.ineligible.setdefault(reason, []).append(update.id)
    changes.ineligible = {reason: sorted(ids) for reason, ids in changes.ineligible.items()}
    return changes


def list_joining(scene: Scene, fleet: FleetFacts) -> list[str]:
    """Apply the rules of automatic rollouts to every bot: ids of updates that are pending again, and of new bots."""
    rollout, session = scene.rollout, scene.session
    failed = set(session.scalars(eligibility.select_failed(rollout.release)))
    updates = {
        update.bot_id: update for update in session.scalars(sa.select(BotUpdate)) if update.rollout_id == rollout.id
    }
    running = {update.bot_id for update in fleet.running}
    joining = []
    for candidate in eligibility.load_candidates(session):
        bot, update = candidate.bot, updates.get(candidate.bot.id)
        target = fleet.targets.get(bot.image)
        if target is None or target.id != rollout.release_id or bot.id in failed or bot.id in running:
            continue
        if bot.node_id in fleet.inactive_nodes or eligibility.exclusion_reason(
            candidate, rollout.release, Audience.AUTOMATIC
        ):
            continue
        if update is None:
            joining.append(bot.id)
        elif _may_rejoin(update, fleet):
            joining.append(update.id)
    return sorted(joining)


def _may_rejoin(update: BotUpdate, fleet: FleetFacts) -> bool:
    if update.state is UpdateState.SKIPPED:
        return update.skip_reason is not SkipReason.STOPPED
    ended_at = update.ended_at or fleet.now
    is_cleaned = update.state is UpdateState.FAILED and update.cleaned_at is not None
    return is_cleaned and ended_at <= fleet.now - eligibility.TRY_AGAIN_AFTER


def test_a_tick_that_changes_nothing_waits_for_no_lock(world: World) -> None:
    world.add_bots(3)
    world.push("2.0.0")
    due = world.tick()
    [rollout] = world.rollouts()

    # In another thread, because a transaction of this one would be part of the writing transaction.
    with world.database.transaction() as session, ThreadPoolExecutor() as threads:
        session.get_one(Rollout, rollout.id, with_for_update=True)

        assert threads.submit(world.tick).result() == due


def test_a_tick_of_many_rollouts_needs_a_few_statements_for_each(world: World) -> None:
    bots = world.add_bots(12)
    release = world.push("2.0.0")
    for bot in bots[:2]:
        world.start(release, [bot])
    world.tick()
    with counted_statements(world.database.engine) as few:
        world.tick()
    for bot in bots[2:]:
        world.start(release, [bot])
    world.tick()

    with counted_statements(world.database.engine) as many:
        world.tick()

    begins = world.database.engine.dialect.name == "sqlite"
    assert len(many) - len(few) <= (len(bots) - 2) * (3 + begins)
