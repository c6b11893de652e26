"""The right to touch a bot's container: one holder at a time, by the database's clock, with a fencing number.

The fence grows with every new holder. Whoever writes on behalf of a holder names the fence it was given, so a
process that slept through the end of its lease can change nothing any more.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Bot, update_where
from portal.services.errors import ConflictError

LEASE_DURATION = timedelta(seconds=30)


class BotBusy(ConflictError):
    """Somebody else is working on the bot; try again when that is done."""


class LeaseLost(ConflictError):
    """The lease ran out or somebody else holds the bot by now: stop at once and write nothing."""


def acquire(session: Session, bot_id: str, owner: str) -> int:
    """Become the one who may touch the bot, for `LEASE`.

    Args:
        session: a write transaction.
        bot_id: the bot.
        owner: who asks, for people: host and process.

    Returns:
        The fence to name in every later write.

    Raises:
        BotBusy: when somebody else's lease is still valid.
    """
    moment = database_now(session)
    if not _change(
        session,
        sa.and_(Bot.id == bot_id, sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= moment)),
        lease_owner=owner,
        lease_until=moment + LEASE_DURATION,
        fence=Bot.fence + 1,
    ):
        raise BotBusy("Somebody else is working on this bot. Try again when that is done.")
    return session.scalars(sa.select(Bot.fence).where(Bot.id == bot_id)).one()


def renew(session: Session, bot_id: str, fence: int) -> None:
    """Let the lease last for `LEASE` from now. It also locks the bot's row until the transaction ends.

    Raises:
        LeaseLost: when it is no longer ours.
    """
    moment = database_now(session)
    if not _change(session, _held(bot_id, fence) & (Bot.lease_until > moment), lease_until=moment + LEASE_DURATION):
        raise LeaseLost(f"the lease on bot {bot_id} was lost")


def release(session: Session, bot_id: str, fence: int) -> None:
    """Give the bot free at once; nothing happens when it is no longer ours."""
    _change(session, _held(bot_id, fence), lease_owner=None, lease_until=None)


def _held(bot_id: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(Bot.id == bot_id, Bot.fence == fence)


def _change(session: Session, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    return update_where(session, Bot, condition, **values) == 1
