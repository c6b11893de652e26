"""Clearing of bots that need attention after a failed rollback. Used by the bot page and `flotilla bots clear`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotState, BotUpdate, EventTag, update_where
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor

_RUNNING_STATES = frozenset({BotState.RUNNING, BotState.UNHEALTHY})


def clear_attention(session: Session, bot: Bot, reason: str, *, actor: Actor) -> None:
    """Allow updates of a bot again after an operator has repaired it.

    The failed rollback is not continued, because it would overwrite the data that the operator restored and that
    users have written since. The archives are kept.

    Args:
        session: a writing transaction.
        bot: the bot.
        reason: what the operator did; shown to other operators.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: the reason is empty.
        ConflictError: the bot does not need attention, was not observed running, or its rollback is being continued.
    """
    if not reason.strip():
        raise InvalidError("Describe what you did. Other operators will read it.", "reason")
    if bot.needs_attention and bot.state not in _RUNNING_STATES:
        raise ConflictError(
            f"The last known state of {bot.name} is {bot.state}. Start its container first, wait until the bot is"
            " running, then clear it. To use another container, run `flotilla bots attach`."
        )
    if not _clear(session, bot):
        raise ConflictError(f"{bot.name} does not need attention, or its rollback is being continued.")
    events.record(
        session,
        EventTag.BOT_ATTENTION_CLEARED,
        actor=actor,
        org_id=bot.org_id,
        bot_id=bot.id,
        data={"reason": reason.strip()},
    )


def _clear(session: Session, bot: Bot) -> bool:
    # A failed rollback that is being continued writes to the data of the bot.
    continued = sa.exists().where(BotUpdate.bot_id == bot.id, BotUpdate.is_running())
    conditions = (Bot.id == bot.id, Bot.needs_attention.is_not(None), ~continued)
    changed = update_where(session, Bot, *conditions, needs_attention=None)
    session.refresh(bot)
    return changed == 1
