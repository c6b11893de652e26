"""Failed calls: when they are repeated, and when operators have to help. Used by the records of all calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotSync, EventTag, MemberSync, SyncState, update_where
from portal.rules import backoff
from portal.services import events
from portal.services.syncs import claims
from portal.services.syncs.claims import Claim

BLOCKED_DELAY = timedelta(minutes=15)
"""Delay before a refused call is repeated, unless someone asks for it earlier."""


class FailureKind(StrEnum):
    """What a failure means for later calls."""

    NO_ANSWER = "no answer"
    """Nothing is sent to the bot for a moment, and then by a separate job."""
    BAD_ANSWER = "bad answer"
    REFUSED = "refused"
    """The call will fail until something changes."""
    STALE = "stale"
    """The bot knows a newer version of the member."""


@dataclass(frozen=True)
class Failure:
    """A failed call.

    Attributes:
        kind: what the failure means for later calls.
        reason: for display.
        status: the HTTP status of a refusal.
    """

    kind: FailureKind
    reason: str
    status: int | None = None


def next_attempt_values(failure: Failure, attempts: int, now: datetime) -> dict[str, Any]:
    """Return the values of a row whose call failed, of `MemberSync` or `BotSync`.

    Args:
        failure: the failure.
        attempts: number of failures before this one.
        now: the current moment.
    """
    is_refused = failure.kind is FailureKind.REFUSED
    delay = BLOCKED_DELAY if is_refused else backoff.choose_delay(attempts + 1)
    return {
        "state": SyncState.BLOCKED if is_refused else SyncState.PENDING,
        "attempts": attempts + 1,
        "next_attempt_at": now + delay,
        "last_error": failure.reason,
    }


def record_no_answer(session: Session, claim: Claim, now: datetime) -> None:
    """Record that the bot did not answer. No call of any kind is sent to it before the next attempt."""
    unanswered = session.scalars(sa.select(BotSync.unanswered_calls).where(BotSync.bot_id == claim.bot_id)).one()
    delay = backoff.choose_delay(unanswered) if unanswered else timedelta(0)
    update_where(
        session,
        BotSync,
        BotSync.bot_id == claim.bot_id,
        unanswered_calls=unanswered + 1,
        next_call_at=now + delay,
    )


def record_answer(session: Session, claim: Claim) -> None:
    """Record that the bot answers again."""
    is_marked = (BotSync.bot_id == claim.bot_id, BotSync.unanswered_calls > 0)
    update_where(session, BotSync, *is_marked, unanswered_calls=0, next_call_at=None)


def repeat_now(session: Session, bot_id: str | None = None) -> None:
    """Make all failed calls to a bot due now, or those to all bots.

    Args:
        session: a writing transaction.
        bot_id: the bot; None for all bots.
    """
    of_bot = () if bot_id is None else (BotSync.bot_id == bot_id,)
    is_delayed = BotSync.next_attempt_at.is_not(None) | BotSync.next_call_at.is_not(None)
    is_member_delayed = MemberSync.next_attempt_at.is_not(None)
    has_delayed_member = sa.exists().where(MemberSync.bot_id == BotSync.bot_id, is_member_delayed)
    # Other transactions lock a sync before its members, too, and several syncs by bot.
    syncs = sa.select(BotSync.bot_id).where(*of_bot, is_delayed | has_delayed_member).order_by(BotSync.bot_id)
    session.execute(syncs.with_for_update())
    update_where(session, BotSync, *of_bot, is_delayed, next_attempt_at=None, next_call_at=None)
    of_members = () if bot_id is None else (MemberSync.bot_id == bot_id,)
    claims.update_members(session, *of_members, is_member_delayed, next_attempt_at=None)


def report_blocked(session: Session, bot_id: str, reason: str, user_id: str | None = None) -> None:
    """Record an event for operators, unless the bot was blocked already.

    Call this before the state is written, so that the event marks the first refusal.
    """
    blocked_rows = sa.exists().where(MemberSync.bot_id == bot_id, MemberSync.state == SyncState.BLOCKED)
    is_blocked = sa.select(blocked_rows | (BotSync.state == SyncState.BLOCKED)).where(BotSync.bot_id == bot_id)
    if session.scalar(is_blocked):
        return
    org_id = session.scalars(sa.select(Bot.org_id).where(Bot.id == bot_id)).one()
    data = {"error": reason, **({"user_id": user_id} if user_id else {})}
    events.record(session, EventTag.SYNC_BLOCKED, org_id=org_id, bot_id=bot_id, data=data)
