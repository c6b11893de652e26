"""Claims on bots: the right to call one bot, by the clock of the database. Used by the jobs that sync bots.

One worker at a time calls a bot, so a bot and a user never have two calls in flight. Every record of a result renews
the claim under its fence, so a process that was suspended beyond the end of its claim can record nothing. A claim
outlives the time limit of a call, so after the death of a worker its last call has ended before the next one begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Bot, BotSync, MemberSync, update_where
from portal.services.errors import ConflictError


class ClaimLost(ConflictError):
    """The claim has expired and another worker has claimed the bot. Its former holder must stop."""


@dataclass(frozen=True)
class Claim:
    """The right of one worker to call one bot.

    Attributes:
        bot_id: the bot.
        fence: a number that grows with every claim on this bot.
        lasting: duration from each renewal.
    """

    bot_id: str
    fence: int
    lasting: timedelta


def claim_bot(session: Session, bot_id: str, lasting: timedelta) -> Claim | None:
    """Claim a bot, or return None while another worker holds it.

    Args:
        session: a writing transaction.
        bot_id: the bot.
        lasting: longer than one call with all its repetitions.
    """
    now = database_now(session)
    fence = session.scalar(
        sa.update(BotSync)
        .where(BotSync.bot_id == bot_id, is_free(now))
        .values(claimed_until=now + lasting, claim_fence=BotSync.claim_fence + 1)
        .returning(BotSync.claim_fence)
        .execution_options(synchronize_session=False)
    )
    return None if fence is None else Claim(bot_id, fence, lasting)


def renew(session: Session, claim: Claim) -> datetime:
    """Extend the claim, lock its row until the transaction ends, and return the moment of the database's clock.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    now = database_now(session)
    if not _change(session, claim, claimed_until=now + claim.lasting):
        raise ClaimLost(f"another worker has claimed the bot {claim.bot_id}")
    return now


def lock_bot(session: Session, bot_id: str) -> None:
    """Lock a bot until the transaction ends.

    Call this before `renew` where the row of the bot is changed after it: every transaction locks a bot before its
    sync, and that before its members, so that none waits in a circle.
    """
    session.execute(sa.select(Bot.id).where(Bot.id == bot_id).with_for_update())


def update_members(session: Session, *conditions: sa.ColumnElement[bool], **values: object) -> None:
    """Update rows of `MemberSync` as `update_where` does, but lock them by bot and then by id before.

    Every transaction that changes several of these rows locks them in this order, so that none waits in a circle. An
    UPDATE alone would lock them in the order in which the database reads them.
    """
    ordered = sa.select(MemberSync.id).where(*conditions).order_by(MemberSync.bot_id, MemberSync.id)
    session.execute(ordered.with_for_update())
    update_where(session, MemberSync, *conditions, **values)


def release(session: Session, claim: Claim) -> None:
    """Release the claim. Nothing happens when another worker has claimed the bot."""
    _change(session, claim, claimed_until=None)


def is_free(now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition for bots that can be claimed at the moment `now` of the database's clock."""
    return sa.or_(BotSync.claimed_until.is_(None), BotSync.claimed_until <= now)


def _change(session: Session, claim: Claim, **values: object) -> bool:
    held = (BotSync.bot_id == claim.bot_id, BotSync.claim_fence == claim.fence)
    return update_where(session, BotSync, *held, **values) == 1
