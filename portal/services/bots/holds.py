"""Holds: an operator keeps a bot on its version until a date. Used by the fleet page, commands and the scheduler.

A held bot is left out of rollouts, unless an operator names it, and its organization cannot update it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, EventTag, update_where
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor

LONGEST = timedelta(days=366)
"""A hold ends after this time at the latest, so that no bot is forgotten on an old version."""


def hold_updates(session: Session, bot: Bot, until: datetime, reason: str, *, now: datetime, actor: Actor) -> None:
    """Hold the updates of a bot until a moment. A second call replaces moment and reason.

    An update that runs already continues. An update that waits in a rollout is skipped at the next tick.

    Args:
        session: a writing transaction.
        bot: the bot.
        until: when the hold ends.
        reason: why, for other operators.
        now: the moment.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: the reason is empty, or the moment has passed or is more than `LONGEST` away.
        ConflictError: the bot is not active.
    """
    if not reason.strip():
        raise InvalidError("Enter a reason. Other operators will read it.", "reason")
    if until <= now:
        raise InvalidError("Choose a date in the future.", "until")
    if until > now + LONGEST:
        raise InvalidError("Choose a date within a year.", "until")
    session.refresh(bot, with_for_update=True)
    if bot.phase is not BotPhase.ACTIVE:
        raise ConflictError(f"{bot.name} is {bot.phase}, so it has no updates to hold.")
    bot.held_until, bot.hold_reason = until, reason.strip()
    data = {"until": until.strftime("%Y-%m-%d %H:%M UTC"), "reason": reason.strip()}
    events.record(session, EventTag.BOT_UPDATES_HELD, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)


def end_hold(session: Session, bot: Bot, *, actor: Actor) -> None:
    """End the hold of a bot now.

    Raises:
        ConflictError: the updates of the bot are not held.
    """
    if not _end(session, bot):
        raise ConflictError(f"The updates of {bot.name} are not held.")
    events.record(session, EventTag.BOT_HOLD_ENDED, actor=actor, org_id=bot.org_id, bot_id=bot.id)


def end_expired(session: Session, now: datetime) -> None:
    """End the holds whose moment has come. A partial index contains the held bots."""
    expired = sa.select(Bot).where(Bot.id.in_(Bot.select_exceptional()), Bot.held_until <= now)
    for bot in session.scalars(expired.order_by(Bot.id)):
        if _end(session, bot, Bot.held_until <= now):
            events.record(session, EventTag.BOT_HOLD_ENDED, org_id=bot.org_id, bot_id=bot.id)


def _end(session: Session, bot: Bot, *conditions: sa.ColumnElement[bool]) -> bool:
    is_held = (Bot.id == bot.id, Bot.held_until.is_not(None), *conditions)
    changed = update_where(session, Bot, *is_held, held_until=None, hold_reason=None)
    session.refresh(bot)
    return changed == 1
