"""Desired and applied states of bots. Used by the scheduler and the job that starts and stops bots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Bot, BotPhase, BotState, BotUpdate, DesiredState, EventTag
from portal.services import events
from portal.services.bots import leases, state_changes

JUST_STARTED = "Just started"
"""Reason for the unknown state of a bot between its start and its first health check."""

_ROUNDING = timedelta(seconds=1)


@dataclass(frozen=True)
class PendingChange:
    """What a worker has to do with the container of a bot.

    Attributes:
        bot: the bot as it was when the worker began.
        state: the state to apply.
        is_restart: whether a running bot has to be stopped first.
    """

    bot: Bot
    state: DesiredState
    is_restart: bool


def list_pending(session: Session) -> Sequence[tuple[str, str]]:
    """Return id and node of every bot whose desired state has to be applied and whose lease is free."""
    now = database_now(session)
    query = sa.select(Bot.id, Bot.node_id).where(leases.is_free(now), *_is_pending(now))
    return [(bot_id, node_id) for bot_id, node_id in session.execute(query.order_by(Bot.id))]


def pending_change(session: Session, bot_id: str) -> PendingChange | None:
    """Return what has to be done with a bot, or None.

    Nothing is applied while an update of the bot is unfinished, because its rollback starts the container. A bot that
    needs attention is stopped, but not started, because its data may be incomplete.
    """
    bot = session.scalar(sa.select(Bot).where(Bot.id == bot_id, *_is_pending(database_now(session))))
    if bot is None:
        return None
    is_restart = bot.desired_state is bot.applied_state and bot.restart_requested_at is not None
    return PendingChange(bot, bot.desired_state, is_restart)


def save_restart_policy(session: Session, bot_id: str, policy: dict[str, Any]) -> dict[str, Any]:
    """Save the restart policy of a bot's container before it is stopped, and return the saved one.

    A second call keeps the first policy.
    """
    bot = session.get_one(Bot, bot_id)
    if bot.restart_policy is None:
        bot.restart_policy = policy
    return bot.restart_policy


def record_stop(session: Session, bot_id: str, now: datetime) -> None:
    """Record that the container was stopped in the middle of a restart.

    If the worker dies now, the next one knows that it only has to start the container.
    """
    state_changes.set_state(session, session.get_one(Bot, bot_id), BotState.STOPPED, None, now)


def record_applied(
    session: Session,
    change: PendingChange,
    *,
    state: BotState,
    detail: str | None,
    address: str | None,
    now: datetime,
) -> None:
    """Record that a bot was stopped, started or restarted.

    Args:
        session: a fenced transaction.
        change: what was done.
        state: the state of the bot afterwards.
        detail: the reason for that state, for display.
        address: the new `host:port`; None to keep the former one.
        now: the moment.
    """
    bot = session.get_one(Bot, change.bot.id)
    # Requests must not go to the former address, which may belong to another container now.
    bot.address = address or bot.address
    bot.applied_state = change.state
    state_changes.set_state(session, bot, state, detail, now)
    bot.state_since = now
    if change.state is DesiredState.RUNNING:
        bot.restart_policy = None
    # A request that came after the worker began asks for another restart.
    if bot.restart_requested_at == change.bot.restart_requested_at:
        bot.restart_requested_at = None
    events.record(session, _tag(change), org_id=bot.org_id, bot_id=bot.id)


def _tag(change: PendingChange) -> EventTag:
    if change.state is DesiredState.STOPPED:
        return EventTag.BOT_STOPPED
    return EventTag.BOT_RESTARTED if change.is_restart else EventTag.BOT_STARTED


def _is_pending(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    unfinished_update = sa.exists().where(BotUpdate.bot_id == Bot.id, BotUpdate.is_unfinished())
    # Before its creation and after its removal a bot has no container. `NOT IN`, because almost all bots are active.
    has_container = Bot.phase.not_in((BotPhase.CREATING, BotPhase.REMOVED)) & Bot.container_id.is_not(None)
    has_to_run = Bot.desired_state == DesiredState.RUNNING
    # A worker that died while it stopped the bot has saved the policy, and the request to stop may be cancelled.
    # JSON columns store None as the text `null`.
    has_policy = sa.func.coalesce(sa.cast(Bot.restart_policy, sa.Text), "null") != "null"
    has_to_start = has_to_run & sa.or_(Bot.restart_requested_at.is_not(None), has_policy)
    is_safe = sa.or_(~has_to_run, Bot.needs_attention.is_(None))
    is_changing = Bot.id.in_(Bot.select_changing())
    # A moment that was just written may be later than the rounded moment of the database.
    is_due = sa.or_(~has_to_run, Bot.restart_requested_at.is_(None), Bot.restart_requested_at <= now + _ROUNDING)
    is_wanted = sa.or_(Bot.desired_state != Bot.applied_state, has_to_start)
    return (is_changing, is_wanted, is_safe, is_due, has_container, ~unfinished_update)
