"""What people want of bots, running or stopped, against what workers have brought about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Bot, BotState, BotUpdate, DesiredState, EventTag
from portal.services import events


def list_pending(session: Session) -> Sequence[tuple[str, str]]:
    """Id and node of every bot for which a worker has something to do and that nobody is at work on."""
    free = sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= database_now(session))
    query = sa.select(Bot.id, Bot.node_id).where(Bot.desired_state != Bot.applied_state, free, ~_unfinished_update())
    return [(bot_id, node_id) for bot_id, node_id in session.execute(query.order_by(Bot.id))]


def pending_change(session: Session, bot_id: str) -> DesiredState | None:
    """What the holder of a bot has to bring about.

    Nothing while an update of it is unfinished: its way back might start what was stopped meanwhile.
    """
    query = sa.select(Bot.desired_state).where(
        Bot.id == bot_id, Bot.desired_state != Bot.applied_state, ~_unfinished_update()
    )
    return session.scalar(query)


def save_restart_policy(session: Session, bot_id: str, policy: dict[str, object]) -> None:
    """Keep what the engine did about the container's end, to be set again; a second try keeps the first answer."""
    bot = session.get_one(Bot, bot_id)
    if bot.restart_policy is None:
        bot.restart_policy = policy


def record_applied(
    session: Session, bot_id: str, done: DesiredState, *, state: BotState, detail: str | None, now: datetime
) -> None:
    """Write down that the bot was stopped or started, and how it is now as far as one can tell."""
    bot = session.get_one(Bot, bot_id)
    bot.applied_state = done
    bot.state, bot.state_detail, bot.state_since = state, detail, now
    if done is DesiredState.RUNNING:
        bot.restart_policy = None
    tag = EventTag.BOT_STOPPED if done is DesiredState.STOPPED else EventTag.BOT_STARTED
    events.record(session, tag, org_id=bot.org_id, bot_id=bot.id)


def _unfinished_update() -> sa.ColumnElement[bool]:
    return sa.exists().where(BotUpdate.bot_id == Bot.id, BotUpdate.is_unfinished())
