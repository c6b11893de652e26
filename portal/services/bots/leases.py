"""Leases on bots: acquire, renew, release, by the clock of the database. Used by `daemon.bot_lease`.

The holder of the lease may touch the bot's container. The fence grows with every new holder, and every write names
the fence of its holder. A process that was suspended beyond the end of its lease can therefore change nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import moment_by_database
from portal.models import Bot, update_where
from portal.services.errors import ConflictError

LEASE_DURATION = timedelta(seconds=30)


class BotBusy(ConflictError):
    """Another process holds the lease."""


class LeaseLost(ConflictError):
    """The lease has expired or was taken over. Its former holder must stop at once."""


def is_free(moment: datetime | sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """Return the condition for bots on which no process holds the lease.

    Args:
        moment: the moment by the clock of the database.
    """
    return sa.or_(Bot.lease_until.is_(None), Bot.lease_until <= moment)


def is_held(bot_id: str, fence: int) -> sa.ColumnElement[bool]:
    """Return the condition, for changes of other rows in one statement, that a process still holds the lease.

    The statement locks the bot's row, so that no process acquires the lease before the change is committed.
    """
    held = sa.select(Bot.id).where(_is_held(bot_id, fence)).with_for_update()
    return sa.exists(held)


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
    statement = (
        sa.update(Bot)
        .where(Bot.id == bot_id, is_free(moment_by_database()))
        .values(lease_owner=owner, lease_until=_end_of_new_lease(), fence=Bot.fence + 1)
        .returning(Bot.fence)
    )
    fence = session.scalar(statement.execution_options(synchronize_session=False))
    if fence is None:
        raise BotBusy("This bot is being updated or changed right now. Try again later.")
    return fence


def renew(session: Session, bot_id: str, fence: int) -> None:
    """Extend the lease to `LEASE_DURATION` from now and lock the bot's row until the transaction ends.

    Raises:
        LeaseLost: the lease has expired or was taken over.
    """
    if not update_where(session, Bot, _is_held(bot_id, fence), lease_until=_end_of_new_lease()):
        raise LeaseLost(f"the lease on bot {bot_id} was lost")


def release(session: Session, bot_id: str, fence: int) -> None:
    """Release the lease. Nothing happens when it was taken over."""
    update_where(session, Bot, Bot.id == bot_id, Bot.fence == fence, lease_owner=None, lease_until=None)


def _is_held(bot_id: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(Bot.id == bot_id, Bot.fence == fence, Bot.lease_until > moment_by_database())


def _end_of_new_lease() -> sa.ColumnElement[datetime]:
    return moment_by_database(LEASE_DURATION.total_seconds())
