"""Tables of alerts: channels to which events are sent, and one row per message. Used by `portal.services.alerts`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.encrypted import EncryptedJSON
from portal.models.outside_text import OutsideText


class AlertFormat(StrEnum):
    """What a receiver understands. The values are stored, so they never change."""

    JSON = "json"
    """Signed JSON as in the specification Standard Webhooks."""
    SLACK = "slack"
    MATTERMOST = "mattermost"
    DISCORD = "discord"
    MATRIX = "matrix"
    """A generic webhook of the bridge Hookshot."""
    NTFY = "ntfy"


class AlertState(StrEnum):
    """States of a message to a channel."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """The receiver refused it permanently."""


class AlertChannel(Base):
    """A receiver of alerts that an operator has added."""

    __tablename__ = "alert_channels"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(sa.String(100), unique=True)
    format: Mapped[AlertFormat] = mapped_column(choice(AlertFormat))
    url: Mapped[str] = mapped_column(EncryptedJSON, deferred=True)
    """Encrypted, because everyone who knows the URL of a chat can write to it."""
    host: Mapped[str] = mapped_column(sa.String(300))
    """The host and port of the URL, for pages and logs."""
    secret: Mapped[str | None] = mapped_column(EncryptedJSON, deferred=True)
    """The signing secret of JSON, or the access token of ntfy."""
    tags: Mapped[list[str]]
    """Tags of the events that are sent."""
    paused_at: Mapped[datetime | None]
    pause_reason: Mapped[str | None] = mapped_column(sa.String(300))
    """Why Flotilla paused the channel; None if an operator did."""
    failing_since: Mapped[datetime | None]
    """The first of the failures since the last success."""
    failures: Mapped[int] = mapped_column(default=0)
    """Number of failures since the last success."""
    last_delivered_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    """The end of the pause after a failure, or of the claim of the worker that is sending. No two claims end at the
    same moment, so it also tells a worker whether its claim is still valid."""
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class AlertDelivery(Base):
    """One message to one channel, stored in the transaction of its event and sent by a worker at least once.

    The ids have no foreign keys: an event must not fail because an operator deletes the channel at the same moment.
    """

    __tablename__ = "alert_deliveries"
    # Almost all rows are delivered, so the state alone finds the few that wait, in their order.
    __table_args__ = (
        sa.UniqueConstraint("channel_id", "event_id"),
        sa.Index(None, "state", "channel_id", "id"),
        sa.Index(None, "channel_id", "id"),
    )
    TRANSITIONS: ClassVar = {
        AlertState.PENDING: frozenset({AlertState.DELIVERED, AlertState.FAILED}),
        AlertState.DELIVERED: frozenset[AlertState](),
        AlertState.FAILED: frozenset({AlertState.PENDING}),
    }

    id: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    message_id: Mapped[str] = mapped_column(sa.String(16), default=new_id)
    """Sent with every attempt, so that receivers recognize copies."""
    channel_id: Mapped[str] = mapped_column(sa.String(16))
    event_id: Mapped[int | None] = mapped_column(sa.BigInteger().with_variant(sa.Integer, "sqlite"))
    """None for a test message."""
    state: Mapped[AlertState] = mapped_column(choice(AlertState), default=AlertState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(OutsideText(500))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    finished_at: Mapped[datetime | None]
