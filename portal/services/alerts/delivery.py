"""Delivery attempts of alerts: due channels, claims and outcomes. Used by the scheduler and the sender.

A worker claims a whole channel by compare-and-set and sends its messages in order. The claim expires at
`next_attempt_at`, which also serves as the fencing token. When a worker dies while sending, the message is sent again
with the same id after the claim has expired.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import AlertChannel, AlertDelivery, AlertState, EventTag, move, update_where
from portal.services import events
from portal.services.mail import outbox

CLAIM_DURATION = timedelta(seconds=90)
"""Duration of a claim. It is longer than the time that a worker spends on one channel."""
GIVE_UP_AFTER = timedelta(days=3)
"""A channel that has failed for this long is paused."""
MAX_REFUSALS = 20
"""A channel whose receiver refused this many messages in a row is paused."""
KEEP_DELIVERIES = timedelta(days=30)
"""How long the delivery log keeps a message that no longer waits."""

_FIRST_PAUSE = timedelta(seconds=5)
_MAX_PAUSE = timedelta(minutes=30)


def list_due(session: Session, now: datetime) -> list[str]:
    """Return the ids of the channels that have messages to send now, in a stable order."""
    waiting = sa.select(AlertDelivery.channel_id).where(AlertDelivery.state == AlertState.PENDING)
    return list(
        session.scalars(
            sa.select(AlertChannel.id)
            .where(
                AlertChannel.paused_at.is_(None), AlertChannel.next_attempt_at <= now, AlertChannel.id.in_(waiting)
            )
            .order_by(AlertChannel.next_attempt_at)
        )
    )


def claim(session: Session, channel_id: str, now: datetime) -> AlertChannel | None:
    """Claim a channel.

    Returns:
        The channel, whose `next_attempt_at` is the claim; None if it is paused, not due, or claimed already.
    """
    claimed = update_where(
        session,
        AlertChannel,
        AlertChannel.id == channel_id,
        AlertChannel.paused_at.is_(None),
        AlertChannel.next_attempt_at <= now,
        next_attempt_at=now + CLAIM_DURATION,
    )
    return session.get(AlertChannel, channel_id, populate_existing=True) if claimed else None


def take_next(session: Session, channel: AlertChannel) -> AlertDelivery | None:
    """Return the next message of a claimed channel, with the number of this attempt.

    Returns:
        None if there is no message, or if the claim is no longer valid.
    """
    if not _is_claimed(session, channel):
        return None
    query = sa.select(AlertDelivery).where(
        AlertDelivery.state == AlertState.PENDING, AlertDelivery.channel_id == channel.id
    )
    delivery = session.scalars(query.order_by(AlertDelivery.id).limit(1)).first()
    if delivery is not None:
        delivery.attempts += 1
        session.flush()
    return delivery


def mark_delivered(session: Session, channel: AlertChannel, delivery: AlertDelivery, now: datetime) -> None:
    """Record that the receiver accepted the message."""
    _finish(session, delivery, AlertState.DELIVERED, now, last_error=None)
    if _update_claimed(session, channel, failures=0, failing_since=None, last_delivered_at=now):
        channel.failures, channel.failing_since = 0, None


def mark_refused(
    session: Session, channel: AlertChannel, delivery: AlertDelivery, reason: str, now: datetime
) -> None:
    """Record that the receiver refused the message permanently. After many refusals in a row, pause the channel."""
    _finish(session, delivery, AlertState.FAILED, now, last_error=reason)
    refusals = channel.failures + 1
    if not _update_claimed(session, channel, failures=refusals, failing_since=channel.failing_since or now):
        return
    channel.failures, channel.failing_since = refusals, channel.failing_since or now
    if refusals >= MAX_REFUSALS:
        _pause(session, channel, f"The receiver refused {refusals} messages in a row. {reason}", now)


def mark_deferred(
    session: Session,
    channel: AlertChannel,
    delivery: AlertDelivery,
    reason: str,
    now: datetime,
    *,
    wait: timedelta | None = None,
) -> None:
    """Schedule the next attempt, after a pause that doubles with every failure, and end the claim.

    A channel that has failed for `GIVE_UP_AFTER` is paused instead; its messages stay.

    Args:
        session: a transaction.
        channel: the claimed channel.
        delivery: the message.
        reason: why the attempt failed.
        now: the current moment in UTC.
        wait: how long the receiver asks to wait; at most the longest pause counts.
    """
    delivery = session.get_one(AlertDelivery, delivery.id)
    delivery.last_error = reason
    failures, since = channel.failures + 1, channel.failing_since or now
    pause = min(max(_FIRST_PAUSE * 2 ** min(failures - 1, 20), wait or timedelta()), _MAX_PAUSE)
    if not _update_claimed(session, channel, failures=failures, failing_since=since, next_attempt_at=now + pause):
        return
    channel.next_attempt_at = now + pause
    if now - since >= GIVE_UP_AFTER:
        _pause(session, channel, f"No message could be delivered for {GIVE_UP_AFTER.days} days. {reason}", now)


def release(session: Session, channel: AlertChannel, now: datetime) -> None:
    """End a claim, so that messages that are queued later are sent at once."""
    _update_claimed(session, channel, next_attempt_at=now)


def delete_of_missing_channels(session: Session) -> None:
    """Delete messages whose channel was deleted while their event was being recorded."""
    session.execute(
        sa.delete(AlertDelivery)
        .where(AlertDelivery.state == AlertState.PENDING, AlertDelivery.channel_id.not_in(sa.select(AlertChannel.id)))
        .execution_options(synchronize_session=False)
    )


def _pause(session: Session, channel: AlertChannel, reason: str, now: datetime) -> None:
    row = session.get(AlertChannel, channel.id, with_for_update=True, populate_existing=True)
    if row is None or row.paused_at is not None:
        return
    row.paused_at, row.pause_reason = now, reason[:300]
    row.version += 1
    data = {"channel": row.id, "name": row.name, "reason": row.pause_reason}
    event = events.record(session, EventTag.ALERT_CHANNEL_PAUSED, data=data)
    outbox.queue_for_operators(session, "alerts_paused", str(event.id), {"channel_id": row.id})


def _finish(session: Session, delivery: AlertDelivery, state: AlertState, now: datetime, **values: Any) -> None:
    # Recorded even if the claim has expired: what the receiver accepted must not be sent again.
    row = session.get_one(AlertDelivery, delivery.id)
    move(session, row, AlertState.PENDING, state, finished_at=now, **values)


def _is_claimed(session: Session, channel: AlertChannel) -> bool:
    query = sa.select(AlertChannel.id).where(
        AlertChannel.id == channel.id,
        AlertChannel.paused_at.is_(None),
        AlertChannel.next_attempt_at == channel.next_attempt_at,
    )
    return session.scalars(query).first() is not None


def _update_claimed(session: Session, channel: AlertChannel, **values: Any) -> bool:
    unchanged = (AlertChannel.id == channel.id, AlertChannel.next_attempt_at == channel.next_attempt_at)
    return update_where(session, AlertChannel, *unchanged, **values) == 1
