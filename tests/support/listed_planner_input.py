"""The input of the planner with every bot of a rollout, in Python. Used by tests as a model of the queries.

Ticks and pages ask only for the bots that matter: see `update_facts` and `waiting_bots` in
`portal.services.rollouts`, which follow the same rules.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer
from sqlalchemy.orm.attributes import set_committed_value

from portal.models import Bot, BotUpdate, Channel, FleetMode, NodeState, Rollout, RolloutState, UpdateState
from portal.rules import windows
from portal.rules.health_check_timeout import choose_timeout
from portal.rules.planner import RolloutSnapshot
from portal.rules.rollout_bots import BlockReason, Target
from portal.rules.strategies import strategy_for
from portal.services import fleet_settings
from portal.services.rollouts.eligibility import Candidate, load_candidates
from portal.services.rollouts.outages import find_outage
from portal.services.rollouts.update_facts import STAGES, find_progress


@dataclass(frozen=True, slots=True)
class PlannedUpdate:
    """An update of the rollout with its bot and the update preferences that apply to it."""

    update: BotUpdate
    candidate: Candidate


def load_updates(session: Session, rollout: Rollout) -> list[PlannedUpdate]:
    """Load the updates of a rollout with their bots, oldest bot first, without secret or long columns."""
    query = (
        sa.select(BotUpdate)
        .where(BotUpdate.rollout_id == rollout.id)
        .options(defer(BotUpdate.saved_container), defer(BotUpdate.log_tail), defer(BotUpdate.journal))
        .execution_options(populate_existing=True)
    )
    updates = {update.bot_id: update for update in session.scalars(query)}
    bot_ids = sa.select(BotUpdate.bot_id).where(BotUpdate.rollout_id == rollout.id)
    planned = [
        PlannedUpdate(updates[candidate.bot.id], candidate)
        for candidate in load_candidates(session, Bot.id.in_(bot_ids))
    ]
    for entry in planned:
        # Saves a query per update where a caller reads `update.bot`.
        set_committed_value(entry.update, "bot", entry.candidate.bot)
    return planned


def build_targets(
    session: Session,
    rollout: Rollout,
    planned: list[PlannedUpdate],
    now: datetime,
    *,
    health_check_timeout: timedelta | None,
) -> list[Target]:
    """Build the planner's description of each bot.

    Args:
        session: the transaction.
        rollout: the rollout.
        planned: its updates, from `load_updates`.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    strategy = strategy_for(rollout.strategy, rollout.parameters)
    timeout = choose_timeout(health_check_timeout, strategy.health_check_timeout())
    busy = _running_elsewhere(session, rollout)
    return [_build_target(rollout, entry, busy, timeout, now) for entry in planned]


def build_snapshot(session: Session, rollout: Rollout, targets: list[Target]) -> RolloutSnapshot:
    """Build the state of a rollout from the descriptions of all its bots.

    Args:
        session: the transaction.
        rollout: the rollout.
        targets: its bots, from `build_targets`.
    """
    settings = fleet_settings.get_settings(session)
    return RolloutSnapshot.from_targets(
        targets,
        strategy=strategy_for(rollout.strategy, rollout.parameters),
        paused=settings.mode is FleetMode.PAUSED or rollout.state is not RolloutState.RUNNING,
        resumed_at=rollout.resumed_at,
        pause_skipped_at=rollout.pause_skipped_at,
        max_parallel=settings.max_parallel,
        running=count_running_per_node(session),
    )


def count_running_per_node(session: Session) -> Counter[str]:
    """Count the running updates of each node, in all rollouts."""
    query = (
        sa.select(Bot.node_id, sa.func.count())
        .join(BotUpdate, BotUpdate.bot_id == Bot.id)
        .where(BotUpdate.is_running())
        .group_by(Bot.node_id)
    )
    return Counter(dict(session.execute(query).all()))


def _build_target(
    rollout: Rollout, entry: PlannedUpdate, busy: set[str], health_check_timeout: timedelta, now: datetime
) -> Target:
    update, bot = entry.update, entry.candidate.bot
    outage = find_outage(update, bot, rollout.release)
    return Target(
        update_id=update.id,
        bot_id=bot.id,
        node_id=bot.node_id,
        stage=STAGES[update.state],
        wave=update.wave,
        block_reason=_block_reason(rollout, entry, busy, now),
        may_be_canary=entry.candidate.may_be_canary,
        canary_channel=bot.release_channel is Channel.CANARY,
        attempt=update.attempt,
        error=update.error or "",
        transient=update.transient,
        never_ran=update.state is UpdateState.FAILED,
        needs_attention=update.state is UpdateState.NEEDS_ATTENTION,
        turned_unhealthy=outage is not None and outage.is_long(health_check_timeout),
        in_doubt=outage is not None and outage.is_in_doubt(health_check_timeout, now),
        progress_at=find_progress(update.timings, update.started_at, bot.lease_until),
        ended_at=update.ended_at,
    )


def _block_reason(rollout: Rollout, entry: PlannedUpdate, busy: set[str], now: datetime) -> BlockReason | None:
    update, bot = entry.update, entry.candidate.bot
    if bot.node.state is not NodeState.ACTIVE:
        return BlockReason.NODE
    if not rollout.ignore_windows and not windows.is_open(entry.candidate.hour_utc, now):
        return BlockReason.WINDOW
    if bot.is_being_started:
        return BlockReason.DOWN
    if update.not_before is not None and update.not_before > now:
        return BlockReason.RETRY
    return BlockReason.BUSY if bot.id in busy else None


def _running_elsewhere(session: Session, rollout: Rollout) -> set[str]:
    query = sa.select(BotUpdate.bot_id).where(BotUpdate.is_running(), BotUpdate.rollout_id != rollout.id)
    return set(session.scalars(query))
