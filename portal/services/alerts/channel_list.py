"""Lists of alert channels and of their messages. Used by the operators' pages and `flotilla alerts list`."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import AlertChannel, AlertDelivery, AlertState
from portal.services.audit import log
from portal.services.audit.log import EventRow

DELIVERIES_PER_PAGE = 50


@dataclass(frozen=True)
class ChannelRow:
    """A channel in the list.

    Attributes:
        channel: the channel.
        waiting: number of messages that wait.
        failed: number of messages that the receiver refused.
    """

    channel: AlertChannel
    waiting: int
    failed: int


@dataclass(frozen=True)
class DeliveryRow:
    """A message in the delivery log.

    Attributes:
        delivery: the message.
        event: its event; None for a test message.
    """

    delivery: AlertDelivery
    event: EventRow | None


@dataclass(frozen=True)
class DeliveryPage:
    """A page of messages, the newest first.

    Attributes:
        lines: the messages.
        older: the id of the message before which the next page starts; None on the last page.
    """

    lines: list[DeliveryRow]
    older: int | None


def list_channels(session: Session) -> list[ChannelRow]:
    """List all channels by name."""
    channels = session.scalars(sa.select(AlertChannel).order_by(AlertChannel.name)).all()
    # Delivered messages, which are almost all, are not counted.
    query = (
        sa.select(AlertDelivery.channel_id, AlertDelivery.state, sa.func.count())
        .where(AlertDelivery.state.in_([AlertState.PENDING, AlertState.FAILED]))
        .group_by(AlertDelivery.channel_id, AlertDelivery.state)
    )
    counts = {(channel_id, state): count for channel_id, state, count in session.execute(query)}
    return [
        ChannelRow(
            channel, counts.get((channel.id, AlertState.PENDING), 0), counts.get((channel.id, AlertState.FAILED), 0)
        )
        for channel in channels
    ]


def list_deliveries(session: Session, channel: AlertChannel, before: int | None = None) -> DeliveryPage:
    """List the messages to a channel, the newest first.

    Args:
        session: the transaction.
        channel: the channel.
        before: the id of the message before which the page starts; None for the newest messages.
    """
    # Pages start at an id, because counting all messages to a channel would take long.
    query = sa.select(AlertDelivery).where(AlertDelivery.channel_id == channel.id)
    if before is not None:
        query = query.where(AlertDelivery.id < before)
    found = session.scalars(query.order_by(AlertDelivery.id.desc()).limit(DELIVERIES_PER_PAGE + 1)).all()
    shown = found[:DELIVERIES_PER_PAGE]
    rows = log.describe_by_id(session, [row.event_id for row in shown if row.event_id is not None])
    older = shown[-1].id if len(found) > DELIVERIES_PER_PAGE else None
    return DeliveryPage([DeliveryRow(delivery, rows.get(delivery.event_id or 0)) for delivery in shown], older)
