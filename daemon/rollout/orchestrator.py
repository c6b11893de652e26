"""The orchestrator: at every tick it advances all open rollouts by the planner's decisions. Used by the scheduler.

The orchestrator keeps no state between ticks except for what it has logged, and it never waits. Another process can
take over at any moment and continues from the same rows. Two orchestrators at once do no harm, because each change is
a compare-and-set.

Most ticks change nothing. A tick therefore reads first, without a lock, and asks the planner. Only for a rollout that
has to change, it locks the rollout, reads again, and applies what the planner decides then.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from daemon.isolated_tasks import isolate_errors
from daemon.rollout import automatic_rollouts, decisions
from daemon.rollout.review import DueUpdate, Review, list_due, review_again, review_open
from portal.database import Database, database_now
from portal.models import Rollout, Trigger
from portal.services.rollouts import transitions, updates
from portal.services.rollouts.fleet_facts import FleetFacts, load_fleet


def tick(database: Database, now: datetime, health_check_timeout: timedelta | None) -> list[DueUpdate]:
    """Advance every open rollout by one step.

    1. List the unfinished updates whose worker has died.
    2. Open the automatic rollout of each release that bots on automatic updates should run but do not run.
    3. Advance each open rollout. An error in one rollout is logged and does not affect the others.

    The caller may hand an update to workers more than once, because a worker claims an update before it starts.

    Args:
        database: the database.
        now: the moment, for windows and pauses. Leases use the clock of the database.
        health_check_timeout: the setting of this installation, if given.

    Returns:
        The updates that workers have to start or to take over.
    """
    with database.reading() as session:
        due = [DueUpdate(*row) for row in updates.list_abandoned(session, database_now(session))]
        fleet = load_fleet(session, now, health_check_timeout)
    with isolate_errors("automatic rollouts"):
        automatic_rollouts.open_rollouts(database, fleet)
    with database.reading() as session:
        reviews = review_open(session, fleet)
    running = fleet.count_running_per_node()
    for review in reviews:
        with isolate_errors(f"rollout {review.rollout.id}"):
            due += _advance(database, review, running)
    return due


def _advance(database: Database, review: Review, running: Counter[str]) -> list[DueUpdate]:
    """Advance one rollout by one step, and add the updates that it starts to `running`, the updates per node."""
    with database.reading() as session:
        started = review.list_startable(session, running)
    if started is None:
        with database.transaction() as session:
            fleet = load_fleet(session, review.fleet.now, review.fleet.health_check_timeout)
            started = _change(session, review.rollout.id, fleet, running)
    running.update(update.node_id for update in started)
    return started


def _change(session: Session, rollout_id: str, fleet: FleetFacts, running: Counter[str]) -> list[DueUpdate]:
    """Change a rollout, and return the updates that workers should start.

    1. End the rollout when its release is quarantined or superseded.
    2. Begin the rollout unless the fleet is paused.
    3. Skip bots that are no longer eligible, and add bots that have become eligible.
    4. Apply the decisions of the planner.

    Args:
        session: the transaction.
        rollout_id: the rollout.
        fleet: the fleet.
        running: updates per node that run or were handed to workers, in all rollouts.
    """
    rollout = session.get_one(Rollout, rollout_id, with_for_update=True)
    if rollout.state not in Rollout.OPEN or _end_obsolete(session, rollout, fleet):
        return []
    if not fleet.is_paused:
        transitions.begin_rollout(session, rollout, fleet.now)
    if _refresh_bots(session, rollout, fleet):
        return []
    planned, nodes = review_again(session, rollout, fleet).decide(session, running)
    decisions.apply_decisions(session, rollout, planned, fleet.now)
    return list_due(planned, nodes)


def _end_obsolete(session: Session, rollout: Rollout, fleet: FleetFacts) -> bool:
    """End a rollout whose release was quarantined or superseded. Return whether it has ended."""
    release = rollout.release
    if release.quarantined_at is not None:
        reason = f"the release was quarantined: {release.quarantine_reason}"
        transitions.abort_rollout(session, rollout, reason, fleet.now, actor=None)
        return True
    newer = automatic_rollouts.find_newer_release(session, rollout, fleet)
    if newer is not None:
        transitions.supersede_rollout(session, rollout, newer, fleet.now)
    return newer is not None


def _refresh_bots(session: Session, rollout: Rollout, fleet: FleetFacts) -> bool:
    """Skip, requeue and add bots whose eligibility has changed.

    Returns:
        Whether more bots have to join at the next tick. Until then no wave starts, because the size of a wave depends
        on the number of bots.
    """
    changes = review_again(session, rollout, fleet).changes
    for reason, update_ids in changes.ineligible.items():
        decisions.skip_updates(session, update_ids, reason, fleet.now)
    decisions.requeue_ended(session, changes.restarted)
    return rollout.trigger is Trigger.AUTO and automatic_rollouts.join_bots(session, rollout, fleet)
