"""The orchestrator: at every tick it advances all open rollouts by the planner's decisions. Used by the scheduler.

The orchestrator keeps no state between ticks except for what it has logged, and it never waits. Another process can
take over at any moment and continues from the same rows. Two orchestrators at once do no harm, because each change is
a compare-and-set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.isolated_tasks import isolate_errors
from daemon.rollout import automatic_rollouts, decisions
from portal.database import Database, database_now
from portal.models import FleetMode, Rollout, Trigger
from portal.rules.planner import plan
from portal.services import fleet_settings
from portal.services.releases import releases
from portal.services.rollouts import planner_input, transitions, updates
from portal.services.rollouts.planner_input import PlannedUpdate


class DueUpdate(NamedTuple):
    """An update that a worker of the node has to start or to take over."""

    update_id: str
    node_id: str


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
    with database.transaction() as session:
        running = planner_input.count_running_per_node(session)
        due = [
            DueUpdate(update_id, node_id)
            for update_id, node_id in updates.list_abandoned(session, database_now(session))
        ]
    with isolate_errors("automatic rollouts"), database.transaction() as session:
        automatic_rollouts.open_rollouts(session)
    for rollout_id in _list_open_rollouts(database):
        with isolate_errors(f"rollout {rollout_id}"), database.transaction() as session:
            due += _advance(session, rollout_id, running, now, health_check_timeout)
    return due


def _list_open_rollouts(database: Database) -> Sequence[str]:
    """List ids of the open rollouts, those started by a member of an organization first."""
    with database.reading() as session:
        query = (
            sa.select(Rollout.id)
            .where(Rollout.state.in_(Rollout.OPEN))
            .order_by((Rollout.trigger == Trigger.TENANT).desc(), Rollout.created_at, Rollout.id)
        )
        return session.scalars(query).all()


def _advance(
    session: Session,
    rollout_id: str,
    running: Counter[str],
    now: datetime,
    health_check_timeout: timedelta | None,
) -> list[DueUpdate]:
    """Advance one rollout by one step.

    1. End the rollout when its release is quarantined or superseded.
    2. Begin the rollout unless the fleet is paused.
    3. Skip bots that are no longer eligible, and add bots that have become eligible.
    4. Apply the decisions of the planner.

    Args:
        session: the transaction.
        rollout_id: the rollout.
        running: updates per node, to which the started updates are added.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    rollout = session.get_one(Rollout, rollout_id, with_for_update=True)
    if rollout.state not in Rollout.OPEN or _end_obsolete(session, rollout, now):
        return []

    if fleet_settings.get_settings(session).mode is not FleetMode.PAUSED:
        transitions.begin_rollout(session, rollout, now)

    planned = planner_input.load_updates(session, rollout)
    if _refresh_bots(session, rollout, planned, now):
        planned = planner_input.load_updates(session, rollout)

    snapshot = planner_input.build_snapshot(
        session, rollout, planned, running, now, health_check_timeout=health_check_timeout
    )
    started = decisions.apply_decisions(session, rollout, plan(snapshot, now), now)

    nodes = {entry.update.id: entry.candidate.bot.node_id for entry in planned}
    running.update(nodes[update_id] for update_id in started)
    return [DueUpdate(update_id, nodes[update_id]) for update_id in started]


def _end_obsolete(session: Session, rollout: Rollout, now: datetime) -> bool:
    """End a rollout whose release was quarantined or superseded. Return whether it has ended."""
    release = rollout.release
    if release.quarantined_at is not None:
        reason = f"the release was quarantined: {release.quarantine_reason}"
        transitions.abort_rollout(session, rollout, reason, now, actor=None)
        return True
    newer = automatic_rollouts.find_newer_release(session, rollout)
    if newer is not None:
        transitions.supersede_rollout(session, rollout, newer, now)
    return newer is not None


def _refresh_bots(session: Session, rollout: Rollout, planned: list[PlannedUpdate], now: datetime) -> bool:
    """Skip, requeue and add bots whose eligibility has changed. Return whether anything has changed."""
    ineligible = planner_input.group_ineligible(rollout, planned, releases.map_targets(session))
    for reason, group in ineligible.items():
        decisions.skip_updates(session, group, reason, now)
    requeued = planner_input.list_restarted(rollout, planned)
    added = 0
    if rollout.trigger is Trigger.AUTO:
        candidates = automatic_rollouts.list_joinable(session, rollout)
        added = automatic_rollouts.add_new_bots(session, rollout, planned, candidates)
        requeued += automatic_rollouts.list_rejoinable(planned, candidates)
    for update in requeued:
        decisions.requeue_skipped(session, update)
    return bool(ineligible or requeued or added)
