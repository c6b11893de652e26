"""Removal of single bots: request it, restore within the grace period. Used by the bot page and `flotilla bots`.

The bot stops at once. After the grace period `daemon.bots.purge` removes its container, and its data if so chosen.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, DesiredState, EventTag, update_where
from portal.services import events
from portal.services.bots import purging
from portal.services.errors import ConflictError
from portal.services.events import Actor
from portal.services.orgs import orgs

GRACE_PERIOD = timedelta(days=7)
"""How long a removed bot can be restored."""

_REMOVABLE = (BotPhase.CREATING, BotPhase.ACTIVE)


def request_removal(
    session: Session, bot: Bot, *, keep_data: bool, immediately: bool = False, now: datetime, actor: Actor
) -> None:
    """Stop a bot and start the grace period of its removal.

    A bot that needs attention can be removed as it is: its containers are stopped, and the choice about the data
    includes the archives from which an operator could restore it.

    Args:
        session: a writing transaction.
        bot: the bot.
        keep_data: whether its volumes and archives stay on the node after the removal.
        immediately: whether there is no grace period.
        now: the moment.
        actor: the user; None for the command line.

    Raises:
        ConflictError: the bot is already being removed or was removed, or its organization is being deleted.
    """
    orgs.lock_active_org(session, bot.org_id)
    # A purge waits for `MARGIN` after the end of the grace period, because clocks of machines differ.
    remove_after = now - purging.MARGIN if immediately else now + GRACE_PERIOD
    changed = update_where(
        session,
        Bot,
        Bot.id == bot.id,
        Bot.phase.in_(_REMOVABLE),
        phase=BotPhase.REMOVING,
        keep_data=keep_data,
        remove_after=remove_after,
        desired_when_restored=Bot.desired_state,
        desired_state=DesiredState.STOPPED,
        restart_requested_at=None,
        version=Bot.version + 1,
    )
    session.refresh(bot)
    if not changed:
        was_removed = bot.phase is BotPhase.REMOVED
        raise ConflictError(f"{bot.name} {'was removed' if was_removed else 'is already being removed'}.")
    data = {"keep_data": keep_data, "remove_after": remove_after.isoformat()}
    events.record(session, EventTag.BOT_REMOVAL_REQUESTED, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)


def is_restorable(bot: Bot, now: datetime) -> bool:
    """Return whether the grace period of a removal still runs."""
    return bot.phase is BotPhase.REMOVING and bot.remove_after is not None and bot.remove_after > now


def restore_bot(session: Session, bot: Bot, *, now: datetime, actor: Actor) -> None:
    """Cancel the removal of a bot within the grace period. A bot that ran before runs again.

    A bot that needs attention stays stopped until an operator has repaired it.

    Raises:
        ConflictError: the bot is not being removed, the grace period is over, or its organization is being deleted.
    """
    orgs.lock_active_org(session, bot.org_id)
    changed = update_where(
        session,
        Bot,
        Bot.id == bot.id,
        Bot.phase == BotPhase.REMOVING,
        Bot.remove_after > now,
        # A bot without a container was being created.
        phase=sa.case((Bot.container_id.is_(None), BotPhase.CREATING), else_=BotPhase.ACTIVE),
        keep_data=None,
        remove_after=None,
        desired_state=sa.func.coalesce(Bot.desired_when_restored, DesiredState.RUNNING),
        desired_when_restored=None,
        creation_due_at=sa.case((Bot.container_id.is_(None), now), else_=None),
        version=Bot.version + 1,
    )
    session.refresh(bot)
    if not changed and bot.phase is BotPhase.REMOVING:
        raise ConflictError(f"It is too late: {bot.name} can no longer be restored.")
    if not changed:
        raise ConflictError(f"{bot.name} is not being removed.")
    events.record(session, EventTag.BOT_RESTORED, actor=actor, org_id=bot.org_id, bot_id=bot.id)
