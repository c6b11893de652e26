"""The orchestrator: at every tick it looks at the database and does what the planner decides.

It remembers nothing between ticks, save what it logged, and waits for nothing. Whoever leads may die at any moment;
the next one looks at the same rows and goes on. Two that lead at once do no harm, for each change is a
compare-and-set.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from daemon.rollout import automatic_rollouts, decisions
from portal.database import Database, database_now
from portal.models import FleetMode, Rollout, Trigger
from portal.rules.planner import plan
from portal.services import fleet_settings
from portal.services.releases import releases
from portal.services.rollouts import planner_input, transitions, updates
from portal.services.rollouts.planner_input import PlannedUpdate

logger = logging.getLogger(__name__)

_told: dict[str, str] = {}
"""Trouble that stands in the log already: the same every second would bury everything else."""


class DueUpdate(NamedTuple):
    """An update a worker of that node should look at now."""

    update_id: str
    node_id: str


def tick(database: Database, now: datetime) -> list[DueUpdate]:
    """Bring every rollout one step further.

    1. Open the automatic rollout of each release that automatic bots should run and do not.
    2. For each open rollout: let bots join or leave, then carry out what the planner decides. One with which that
       goes wrong, whatever the reason, is told in the log and stays as it is; the others go on.
    3. Name the updates that workers should begin with, or take over from a worker that died.

    The answer is a hint that may be given to workers more than once: the claim of an update is what counts.

    Args:
        database: the database.
        now: the moment, for windows and pauses; leases are judged by the database's own clock.
    """
    with database.transaction() as session:
        fleet_settings.get_settings(session)  # so that the row is there for all who only read
        running = planner_input.count_running_per_node(session)
        due = [
            DueUpdate(update_id, node_id)
            for update_id, node_id in updates.list_abandoned(session, database_now(session))
        ]
    with _apart("automatic rollouts"), database.transaction() as session:
        automatic_rollouts.open_rollouts(session)
    for rollout_id in _open(database):
        with _apart(f"rollout {rollout_id}"), database.transaction() as session:
            due += _advance(session, rollout_id, running, now)
    return due


@contextmanager
def _apart(what: str) -> Iterator[None]:
    """Keep the trouble of one rollout from all others; the next tick tries it again."""
    try:
        yield
    except IntegrityError:
        pass  # another leader opened the rollout, or gave the same bot its part, at the same moment
    except Exception as error:
        if _told.get(what) != repr(error):
            logger.exception("%s cannot go on", what)
        _told[what] = repr(error)
    else:
        _told.pop(what, None)


def _open(database: Database) -> Sequence[str]:
    """Ids of the open rollouts: those somebody waits for in front of the screen first."""
    with database.reading() as session:
        query = (
            sa.select(Rollout.id)
            .where(Rollout.state.in_(Rollout.OPEN))
            .order_by((Rollout.trigger == Trigger.TENANT).desc(), Rollout.created_at, Rollout.id)
        )
        return session.scalars(query).all()


def _advance(session: Session, rollout_id: str, running: Counter[str], now: datetime) -> list[DueUpdate]:
    """Let one rollout make its next step; `running` grows by the updates it hands to workers."""
    rollout = session.get_one(Rollout, rollout_id, with_for_update=True)
    if rollout.state not in Rollout.OPEN or _ended_from_outside(session, rollout):
        return []
    if fleet_settings.get_settings(session).mode is not FleetMode.PAUSED:
        transitions.begin_rollout(session, rollout)
    entries = planner_input.load_updates(session, rollout)
    if _bots_left_or_joined(session, rollout, entries, now):
        entries = planner_input.load_updates(session, rollout)
    view = planner_input.build_snapshot(session, rollout, entries, running, now)
    nodes = {entry.update.id: entry.candidate.bot.node_id for entry in entries}
    started = decisions.apply_decisions(session, rollout, plan(view, now))
    running.update(nodes[update_id] for update_id in started)
    return [DueUpdate(update_id, nodes[update_id]) for update_id in started]


def _ended_from_outside(session: Session, rollout: Rollout) -> bool:
    """End a rollout whose release was quarantined, or whose image has moved on."""
    release = rollout.release
    if release.quarantined_at is not None:
        transitions.abort_rollout(session, rollout, f"the release was quarantined: {release.quarantine_reason}", None)
        return True
    newer = automatic_rollouts.find_newer_release(session, rollout)
    if newer is not None:
        transitions.supersede_rollout(session, rollout, newer)
    return newer is not None


def _bots_left_or_joined(session: Session, rollout: Rollout, entries: list[PlannedUpdate], now: datetime) -> bool:
    leaving = planner_input.group_ineligible(rollout, entries, releases.map_targets(session))
    for reason, group in leaving.items():
        decisions.skip_updates(session, group, reason, now)
    returning = planner_input.list_restarted(rollout, entries)
    joined = 0
    if rollout.trigger is Trigger.AUTO:
        wanted = automatic_rollouts.list_joinable(session, rollout)
        joined = automatic_rollouts.join_rollout(session, rollout, entries, wanted)
        returning += automatic_rollouts.list_rejoinable(entries, wanted)
    for update in returning:
        decisions.requeue_skipped(session, update)
    return bool(leaving or returning or joined)
