"""The mail outbox: one row per email. Used by `portal.services.mail`.

Rows contain ids only; text and links are created when the email is sent.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.outside_text import OutsideText


class MailState(StrEnum):
    """States of an email."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    """The server refused it permanently, or every attempt failed. It waits for an operator."""
    CANCELLED = "cancelled"
    """It is not sent: it is no longer needed, or an operator dismissed its failure."""


class OutgoingMail(Base):
    """An email, queued in the transaction of its cause and sent by a worker at least once."""

    __tablename__ = "mail_outbox"
    # Almost all rows are sent and their moment is past, so neither column alone finds the due mails.
    __table_args__ = (sa.Index(None, "state", "next_attempt_at"),)
    TRANSITIONS: ClassVar = {
        MailState.PENDING: frozenset({MailState.SENDING, MailState.CANCELLED}),
        # Back to pending after a failed attempt.
        MailState.SENDING: frozenset({MailState.PENDING, MailState.SENT, MailState.FAILED, MailState.CANCELLED}),
        MailState.SENT: frozenset({MailState.PENDING}),
        MailState.FAILED: frozenset({MailState.PENDING, MailState.CANCELLED}),
        MailState.CANCELLED: frozenset({MailState.PENDING}),
    }

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    dedupe_key: Mapped[str] = mapped_column(sa.String(200), unique=True)
    message_id: Mapped[str | None] = mapped_column(sa.String(200))
    """Set at the first attempt and kept for later attempts, so that mail programs recognize copies."""
    to: Mapped[str] = mapped_column(sa.String(254))
    template: Mapped[str] = mapped_column(sa.String(64))
    context: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Ids of the rows from which the email is composed when it is sent."""
    state: Mapped[MailState] = mapped_column(choice(MailState), default=MailState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    """In the state `sending`: the moment at which the claim of the attempt expires."""
    last_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    sent_at: Mapped[datetime | None]
