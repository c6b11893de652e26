"""The input of the planner, loaded from the database. Used by the orchestrator and the progress of a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer
from sqlalchemy.orm.attributes import set_committed_value

from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    FleetMode,
    NodeState,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    Step,
    Trigger,
    UpdateState,
)
from portal.rules import windows
from portal.rules.health_check_timeout import choose_timeout
from portal.rules.planner import BlockReason, RolloutSnapshot, Stage, Target
from portal.rules.strategies import strategy_for
from portal.services import fleet_settings
from portal.services.releases import releases
from portal.services.rollouts.eligibility import Candidate, exclusion_reason, load_candidates

_STAGES = {
    UpdateState.PENDING: Stage.WAITING,
    UpdateState.RUNNING: Stage.IN_FLIGHT,
    UpdateState.UPDATED: Stage.UPDATED,
    UpdateState.ROLLED_BACK: Stage.FAILED,
    UpdateState.FAILED: Stage.FAILED,
    UpdateState.NEEDS_ATTENTION: Stage.FAILED,
    UpdateState.SKIPPED: Stage.SKIPPED,
}
_DOWN = frozenset({BotState.UNHEALTHY, BotState.STOPPED, BotState.MISSING})
_STALE_AFTER = timedelta(minutes=1)
"""The state of a bot that was not checked for this long is unknown: its node has a problem, not the release."""


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


def group_ineligible(
    rollout: Rollout, planned: list[PlannedUpdate], targets: Mapping[str, Release]
) -> dict[SkipReason, list[BotUpdate]]:
    """Group the pending updates of bots that are no longer eligible by the reason.

    Args:
        rollout: the rollout.
        planned: its updates, from `load_updates`.
        targets: the release at which each image points, from `releases.map_targets`.
    """
    groups: dict[SkipReason, list[BotUpdate]] = {}
    for entry in planned:
        if entry.update.state is not UpdateState.PENDING:
            continue
        reason = exclusion_reason(entry.candidate, rollout.release, rollout.audience)
        if reason is SkipReason.STOPPED and entry.candidate.bot.is_being_started:
            reason = None  # it waits
        if rollout.trigger is Trigger.AUTO and _has_other_target(entry.candidate.bot, rollout, targets):
            reason = reason or SkipReason.SUPERSEDED
        if reason is not None:
            groups.setdefault(reason, []).append(entry.update)
    return groups


def list_restarted(rollout: Rollout, planned: list[PlannedUpdate]) -> list[BotUpdate]:
    """List updates that were skipped because the bot was stopped, and whose bot runs again or is being started."""
    return [
        entry.update
        for entry in planned
        if entry.update.skip_reason is SkipReason.STOPPED and _runs_again(entry, rollout)
    ]


def build_snapshot(
    session: Session,
    rollout: Rollout,
    planned: list[PlannedUpdate],
    running: Mapping[str, int],
    now: datetime,
    *,
    health_check_timeout: timedelta | None,
) -> RolloutSnapshot:
    """Build the state of a rollout for the planner.

    Args:
        session: the transaction.
        rollout: the rollout.
        planned: its updates, from `load_updates`.
        running: updates per node that run or were handed to workers, in all rollouts.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    settings = fleet_settings.get_settings(session)
    strategy = strategy_for(rollout.strategy, rollout.parameters)
    timeout = choose_timeout(health_check_timeout, strategy.health_check_timeout())
    busy = _running_elsewhere(session, rollout)
    return RolloutSnapshot(
        strategy=strategy,
        targets=[_build_target(rollout, entry, busy, timeout, now) for entry in planned],
        paused=settings.mode is FleetMode.PAUSED or rollout.state is not RolloutState.RUNNING,
        resumed_at=rollout.resumed_at,
        max_parallel=settings.max_parallel,
        running=running,
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
    outage = _find_outage(update, bot, rollout.release)
    is_long = outage is not None and outage.last_seen - outage.since >= health_check_timeout
    return Target(
        update_id=update.id,
        bot_id=bot.id,
        node_id=bot.node_id,
        stage=_STAGES[update.state],
        wave=update.wave,
        block_reason=_block_reason(rollout, entry, busy, now),
        may_be_canary=entry.candidate.may_be_canary,
        canary_channel=bot.release_channel is Channel.CANARY,
        attempt=update.attempt,
        error=update.error or "",
        transient=update.transient,
        never_ran=update.state is UpdateState.FAILED,
        needs_attention=update.state is UpdateState.NEEDS_ATTENTION,
        turned_unhealthy=is_long,
        in_doubt=outage is not None and not is_long and now < outage.last_seen + _STALE_AFTER,
        progress_at=_progress_at(update),
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


class _Outage(NamedTuple):
    since: datetime
    last_seen: datetime


def _find_outage(update: BotUpdate, bot: Bot, release: Release) -> _Outage | None:
    """Return since when an updated bot that should run is down; None when the bot is not down."""
    if update.state is not UpdateState.UPDATED or bot.desired_state is not DesiredState.RUNNING:
        return None
    if bot.state not in _DOWN or not releases.is_running(bot, release):
        return None
    since, ended, checked = bot.state_since, update.ended_at, bot.checked_at
    if since is None or checked is None or ended is None or since <= ended:
        return None
    return _Outage(since, checked)


def _progress_at(update: BotUpdate) -> datetime | None:
    if update.step is Step.BASE:  # takes as long as the data needs, while the bot runs, and has its own deadline
        return None
    moments = [datetime.fromisoformat(moment) for times in update.timings.values() for moment in times if moment]
    return max(moments, default=update.started_at)


def _runs_again(entry: PlannedUpdate, rollout: Rollout) -> bool:
    reason = exclusion_reason(entry.candidate, rollout.release, rollout.audience)
    if reason is SkipReason.STOPPED:
        return entry.candidate.bot.is_being_started
    return reason is None and _was_checked_since(entry)


def _was_checked_since(entry: PlannedUpdate) -> bool:
    """Return whether the bot was checked after its update ended; an earlier check may be outdated."""
    checked, ended = entry.candidate.bot.checked_at, entry.update.ended_at
    return checked is not None and (ended is None or checked > ended)


def _has_other_target(bot: Bot, rollout: Rollout, targets: Mapping[str, Release]) -> bool:
    target = targets.get(bot.image)
    return rollout.audience is Audience.AUTOMATIC and (target is None or target.id != rollout.release_id)


def _running_elsewhere(session: Session, rollout: Rollout) -> set[str]:
    query = sa.select(BotUpdate.bot_id).where(BotUpdate.is_running(), BotUpdate.rollout_id != rollout.id)
    return set(session.scalars(query))
