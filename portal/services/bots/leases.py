"""Leases on bots: acquire, renew, release, by the clock of the database. Used by `daemon.bot_lease`.

The holder of the lease may touch the bot's container. The fence grows with every new holder, and every write names
the fence of its holder. A process that was suspended beyond the end of its lease can therefore change nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Bot, update_where
from portal.services.errors import ConflictError

LEASE_DURATION = timedelta(seconds=30)


class BotBusy(ConflictError):
    """Another process holds the lease."""


class LeaseLost(ConflictError):
    """The lease has expired or was taken over. Its former holder must stop at once."""


def is_free(moment: datetime) -> sa.ColumnElement[bool]:
    """Return the condition for bots on which no process holds the lease.

    Args:
        moment: the moment by the clock of the database.
    """
    return sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= moment)


def acquire(session: Session, bot_id: str, owner: str) -> int:
    """Acquire the lease on a bot for `LEASE_DURATION`.

    Args:
        session: a writing transaction.
        bot_id: the bot.
        owner: host and process of the new holder, for display.

    Returns:
        The fence of the new holder.

    Raises:
        BotBusy: another process holds the lease.
    """
    moment = database_now(session)
    if not _change(
        session,
        sa.and_(Bot.id == bot_id, is_free(moment)),
        lease_owner=owner,
        lease_until=moment + LEASE_DURATION,
        fence=Bot.fence + 1,
    ):
        raise BotBusy("This bot is being updated or changed right now. Try again later.")
    return session.scalars(sa.select(Bot.fence).where(Bot.id == bot_id)).one()


def renew(session: Session, bot_id: str, fence: int) -> None:
    """Extend the lease to `LEASE_DURATION` from now and lock the bot's row until the transaction ends.

    Raises:
        LeaseLost: the lease has expired or was taken over.
    """
    moment = database_now(session)
    if not _change(session, _held(bot_id, fence) & (Bot.lease_until > moment), lease_until=moment + LEASE_DURATION):
        raise LeaseLost(f"the lease on bot {bot_id} was lost")


def release(session: Session, bot_id: str, fence: int) -> None:
    """Release the lease. Nothing happens when it was taken over."""
    _change(session, _held(bot_id, fence), lease_owner=None, lease_until=None)


def _held(bot_id: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(Bot.id == bot_id, Bot.fence == fence)


def _change(session: Session, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    return update_where(session, Bot, condition, **values) == 1
