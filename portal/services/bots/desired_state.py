"""Desired and applied states of bots. Used by the scheduler and the job that starts and stops bots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Bot, BotPhase, BotState, BotUpdate, DesiredState, EventTag
from portal.services import events


def list_pending(session: Session) -> Sequence[tuple[str, str]]:
    """Return id and node of every bot whose desired state has to be applied and whose lease is free."""
    free = sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= database_now(session))
    query = sa.select(Bot.id, Bot.node_id).where(free, *_is_pending())
    return [(bot_id, node_id) for bot_id, node_id in session.execute(query.order_by(Bot.id))]


def pending_change(session: Session, bot_id: str) -> DesiredState | None:
    """Return the desired state that has to be applied to a bot, or None.

    Nothing is applied while an update of the bot is unfinished, because its rollback starts the container.
    """
    return session.scalar(sa.select(Bot.desired_state).where(Bot.id == bot_id, *_is_pending()))


def save_restart_policy(session: Session, bot_id: str, policy: dict[str, object]) -> None:
    """Save the restart policy of a bot's container before it is stopped. A second call keeps the first policy."""
    bot = session.get_one(Bot, bot_id)
    if bot.restart_policy is None:
        bot.restart_policy = policy


def record_applied(
    session: Session, bot_id: str, done: DesiredState, *, state: BotState, detail: str | None, now: datetime
) -> None:
    """Record that a bot was stopped or started, with its state afterwards."""
    bot = session.get_one(Bot, bot_id)
    bot.applied_state = done
    bot.state, bot.state_detail, bot.state_since = state, detail, now
    if done is DesiredState.RUNNING:
        bot.restart_policy = None
    tag = EventTag.BOT_STOPPED if done is DesiredState.STOPPED else EventTag.BOT_STARTED
    events.record(session, tag, org_id=bot.org_id, bot_id=bot.id)


def _is_pending() -> tuple[sa.ColumnElement[bool], ...]:
    unfinished_update = sa.exists().where(BotUpdate.bot_id == Bot.id, BotUpdate.is_unfinished())
    # Before its creation and after its removal a bot has no container.
    has_container = Bot.phase.in_((BotPhase.ACTIVE, BotPhase.REMOVING)) & Bot.container_id.is_not(None)
    return (Bot.desired_state != Bot.applied_state, has_container, ~unfinished_update)
