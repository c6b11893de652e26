"""Table of mailed one-time links: sign-up, password reset, email change."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow


class TokenPurpose(StrEnum):
    """The only action that a token allows."""

    SIGNUP = "signup"
    RESET = "reset"
    CHANGE_EMAIL = "change_email"


class OneTimeToken(Base):
    """A request for a mailed link. The token is derived when the mail is sent; only its SHA-256 is stored."""

    __tablename__ = "one_time_tokens"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    purpose: Mapped[TokenPurpose] = mapped_column(choice(TokenPurpose))
    generation: Mapped[int] = mapped_column(default=1)
    token_hash: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    """None until the worker has composed the mail."""
    user_id: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    email: Mapped[str] = mapped_column(sa.String(254))
    email_normalized: Mapped[str] = mapped_column(sa.String(254), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
