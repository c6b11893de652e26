"""Mail that is to be sent, or was. The rows hold ids only: no link, no text."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow


class MailState(StrEnum):
    """`failed`: the server refused it for good, or the reason for the mail is gone."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class OutgoingMail(Base):
    """One mail, written in the transaction that is its reason and sent by a worker, at least once."""

    __tablename__ = "mail_outbox"
    TRANSITIONS: ClassVar = {
        MailState.PENDING: frozenset({MailState.SENDING, MailState.FAILED}),
        # A worker that died while sending: the mail goes out again, under the same Message-ID.
        MailState.SENDING: frozenset({MailState.PENDING, MailState.SENT, MailState.FAILED}),
        MailState.SENT: frozenset({MailState.PENDING}),
        MailState.FAILED: frozenset({MailState.PENDING}),
    }

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    dedupe_key: Mapped[str] = mapped_column(sa.String(200), unique=True)
    message_id: Mapped[str | None] = mapped_column(sa.String(200))
    """Given at the first attempt and kept by all that follow, so that a second copy is known as one."""
    to: Mapped[str] = mapped_column(sa.String(254))
    template: Mapped[str] = mapped_column(sa.String(64))
    context: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Ids of the rows the text is made of when it is sent."""
    state: Mapped[MailState] = mapped_column(choice(MailState), default=MailState.PENDING, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    """While sending: when the attempt counts as lost with its worker."""
    last_error: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    sent_at: Mapped[datetime | None]
