"""A rollout as the planner looks at it, read from the database."""

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
    Trigger,
    UpdateState,
)
from portal.rules import windows
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
    UpdateState.SKIPPED: Stage.LEFT_OUT,
}
_DOWN = frozenset({BotState.UNHEALTHY, BotState.STOPPED, BotState.MISSING})
_NO_MORE_LOOKS = timedelta(minutes=1)
"""A bot that was not looked at for so long says nothing: its node is in trouble, and that is no release's fault."""


@dataclass(frozen=True, slots=True)
class PlannedUpdate:
    """One bot's part, with everything that decides about it."""

    update: BotUpdate
    candidate: Candidate


def load_updates(session: Session, rollout: Rollout) -> list[PlannedUpdate]:
    """Load the bots of a rollout in the order in which they should be taken, without what is secret or long."""
    query = (
        sa.select(BotUpdate)
        .where(BotUpdate.rollout_id == rollout.id)
        .options(defer(BotUpdate.saved_container), defer(BotUpdate.log_tail), defer(BotUpdate.journal))
        .execution_options(populate_existing=True)
    )
    updates = {update.bot_id: update for update in session.scalars(query)}
    taking_part = sa.select(BotUpdate.bot_id).where(BotUpdate.rollout_id == rollout.id)
    found = [
        PlannedUpdate(updates[candidate.bot.id], candidate)
        for candidate in load_candidates(session, Bot.id.in_(taking_part))
    ]
    for entry in found:
        # Whoever keeps only the updates has their bots too, instead of asking the database for one after the other.
        set_committed_value(entry.update, "bot", entry.candidate.bot)
    return found


def group_ineligible(
    rollout: Rollout, found: list[PlannedUpdate], targets: Mapping[str, Release]
) -> dict[SkipReason, list[BotUpdate]]:
    """Group the pending bots that cannot take part any more by the reason."""
    groups: dict[SkipReason, list[BotUpdate]] = {}
    for entry in found:
        if entry.update.state is not UpdateState.PENDING:
            continue
        reason = exclusion_reason(entry.candidate, rollout.release, rollout.audience)
        if rollout.trigger is Trigger.AUTO and _moved_on(entry.candidate.bot, rollout, targets):
            reason = reason or SkipReason.SUPERSEDED
        if reason is not None:
            groups.setdefault(reason, []).append(entry.update)
    return groups


def list_restarted(rollout: Rollout, found: list[PlannedUpdate]) -> list[BotUpdate]:
    """Find bots that were skipped because they were stopped and have been seen running since: they are due again."""
    return [
        entry.update
        for entry in found
        if entry.update.skip_reason is SkipReason.STOPPED
        and was_checked_since(entry)
        and exclusion_reason(entry.candidate, rollout.release, rollout.audience) is None
    ]


def was_checked_since(entry: PlannedUpdate) -> bool:
    """Whether the bot was looked at after its part ended; what was known before may be old."""
    checked, ended = entry.candidate.bot.checked_at, entry.update.ended_at
    return checked is not None and (ended is None or checked > ended)


def build_snapshot(
    session: Session, rollout: Rollout, found: list[PlannedUpdate], running: Mapping[str, int], now: datetime
) -> RolloutSnapshot:
    """Describe a rollout to the planner.

    Args:
        session: the transaction.
        rollout: the rollout.
        found: its bots, as `entries` gave them.
        running: updates per node that run, or were handed to workers already.
        now: the moment.
    """
    settings = fleet_settings.get_settings(session)
    strategy = strategy_for(rollout.strategy, rollout.parameters)
    busy = _running_elsewhere(session, rollout)
    return RolloutSnapshot(
        strategy=strategy,
        targets=[_part(rollout, entry, busy, strategy.health_check_timeout(), now) for entry in found],
        paused=settings.mode is FleetMode.PAUSED or rollout.state is not RolloutState.RUNNING,
        resumed_at=rollout.resumed_at,
        max_parallel=settings.max_parallel,
        running=running,
    )


def count_running_per_node(session: Session) -> Counter[str]:
    """Count the updates that run on each node, in all rollouts."""
    query = (
        sa.select(Bot.node_id, sa.func.count())
        .join(BotUpdate, BotUpdate.bot_id == Bot.id)
        .where(BotUpdate.state == UpdateState.RUNNING)
        .group_by(Bot.node_id)
    )
    return Counter(dict(session.execute(query).all()))


def _part(rollout: Rollout, entry: PlannedUpdate, busy: set[str], patience: timedelta, now: datetime) -> Target:
    update, bot = entry.update, entry.candidate.bot
    down = _seen_down(update, bot, rollout.release)
    return Target(
        update_id=update.id,
        bot_id=bot.id,
        node_id=bot.node_id,
        stage=_STAGES[update.state],
        wave=update.wave,
        block_reason=_hold(rollout, entry, busy, now),
        may_be_canary=entry.candidate.may_be_canary,
        canary_channel=bot.release_channel is Channel.CANARY,
        attempt=update.attempt,
        error=update.error or "",
        transient=update.transient,
        never_ran=update.state is UpdateState.FAILED,
        turned_unhealthy=down is not None and down.until - down.since >= patience,
        in_doubt=down is not None and down.until - down.since < patience and now < down.until + _NO_MORE_LOOKS,
        progress_at=_progress_at(update),
        ended_at=update.ended_at,
    )


def _hold(rollout: Rollout, entry: PlannedUpdate, busy: set[str], now: datetime) -> BlockReason | None:
    update, bot = entry.update, entry.candidate.bot
    if bot.node.state is not NodeState.ACTIVE:
        return BlockReason.NODE
    if not rollout.ignore_windows and not windows.is_open(entry.candidate.hour_utc, now):
        return BlockReason.WINDOW
    if update.not_before is not None and update.not_before > now:
        return BlockReason.RETRY
    return BlockReason.BUSY if bot.id in busy else None


class _Down(NamedTuple):
    since: datetime
    until: datetime


def _seen_down(update: BotUpdate, bot: Bot, release: Release) -> _Down | None:
    """From when to when an updated bot, which people still want to run, was seen down; None for one that is not."""
    if update.state is not UpdateState.UPDATED or bot.desired_state is not DesiredState.RUNNING:
        return None
    if bot.state not in _DOWN or not releases.is_running(bot, release):
        return None
    since, ended, checked = bot.state_since, update.ended_at, bot.checked_at
    if since is None or checked is None or ended is None or since <= ended:
        return None
    return _Down(since, checked)


def _progress_at(update: BotUpdate) -> datetime | None:
    moments = [datetime.fromisoformat(moment) for times in update.timings.values() for moment in times if moment]
    return max(moments, default=update.started_at)


def _moved_on(bot: Bot, rollout: Rollout, targets: Mapping[str, Release]) -> bool:
    target = targets.get(bot.image)
    return rollout.audience is Audience.AUTOMATIC and (target is None or target.id != rollout.release_id)


def _running_elsewhere(session: Session, rollout: Rollout) -> set[str]:
    query = sa.select(BotUpdate.bot_id).where(
        BotUpdate.state == UpdateState.RUNNING, BotUpdate.rollout_id != rollout.id
    )
    return set(session.scalars(query))
