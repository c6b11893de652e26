"""Moving a bot to another release channel. Used by the fleet page and `flotilla bots channel`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, Channel, EventTag
from portal.services import events
from portal.services.errors import ConflictError
from portal.services.events import Actor
from portal.services.releases import polling


def move_bot(session: Session, bot: Bot, channel: Channel, *, now: datetime, actor: Actor) -> bool:
    """Move a bot to a channel. Return False if the bot is in it already.

    Args:
        session: a writing transaction.
        bot: the bot.
        channel: the new channel.
        now: the moment.
        actor: the operator; None for the command line.

    Raises:
        ConflictError: the bot is being removed or was removed.
    """
    session.refresh(bot, with_for_update=True)
    if bot.phase not in {BotPhase.CREATING, BotPhase.ACTIVE}:
        raise ConflictError(f"{bot.name} is {bot.phase}, so its channel cannot be changed.")
    if bot.release_channel is channel:
        return False
    data = {"old": bot.release_channel, "new": channel}
    bot.release_channel = channel
    events.record(session, EventTag.BOT_CHANNEL_CHANGED, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)
    if channel is not Channel.PINNED:
        polling.schedule_first_poll(session, bot.image, now)
    return True
