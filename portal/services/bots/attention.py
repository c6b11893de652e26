"""Bots that need a person because an update of theirs could not be taken back, and the word that they do no more."""

from __future__ import annotations

from sqlalchemy.orm import Session

from portal.models import Bot, BotState, EventTag, User, update_where
from portal.services import events
from portal.services.errors import ConflictError, InvalidError

_RUNS = frozenset({BotState.RUNNING, BotState.UNHEALTHY})


def clear_attention(session: Session, bot: Bot, reason: str, actor: User | None) -> None:
    """Let updates take a bot again that an operator has put right.

    Nothing else happens: the rollback is not carried on, because what the operator restored, and what users have
    written since, would be lost with it. The archives stay where they are.

    Args:
        session: a writing transaction.
        bot: the bot.
        reason: what was done about it, in words that operators will read.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: without a reason.
        ConflictError: the bot needs nobody, or was not seen running since.
    """
    if not reason.strip():
        raise InvalidError("Say what was done about it; people will read it.", "reason")
    if bot.needs_attention and bot.state not in _RUNS:
        raise ConflictError(
            f"{bot.name} was last seen {bot.state}. Start its container first, wait until it is seen running,"
            " then clear it. One that took its place is made known with `flotilla bots attach`."
        )
    if not _take_away(session, bot):
        raise ConflictError(f"{bot.name} needs nobody's attention.")
    events.record(
        session,
        EventTag.BOT_ATTENTION_CLEARED,
        actor=actor,
        org_id=bot.org_id,
        bot_id=bot.id,
        data={"reason": reason.strip()},
    )


def _take_away(session: Session, bot: Bot) -> bool:
    conditions = (Bot.id == bot.id, Bot.needs_attention.is_not(None))
    changed = update_where(session, Bot, *conditions, needs_attention=None)
    session.refresh(bot)
    return changed == 1
