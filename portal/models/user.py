"""Tables of users and their sessions."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, new_id, utcnow
from portal.models.outside_text import OutsideLine


class User(Base):
    """A person with an account."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(sa.String(254))
    email_normalized: Mapped[str] = mapped_column(sa.String(254), unique=True)
    password_hash: Mapped[str | None] = mapped_column(sa.String(255))
    name: Mapped[str] = mapped_column(sa.String(100))
    is_platform_admin: Mapped[bool] = mapped_column(default=False)
    weekly_summary: Mapped[bool] = mapped_column(default=False)
    """Whether the user gets the weekly summary while being an operator."""
    disabled_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """The row of a deleted account stays, without personal data, because events and memberships refer to it."""
    last_org_id: Mapped[str | None] = mapped_column(sa.String(16))
    """The organization to open after sign-in. No foreign key, because `orgs` already refers to `users`."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class UserSession(Base):
    """The session of one signed-in browser. Only the SHA-256 of the cookie's token is stored."""

    __tablename__ = "sessions"
    # Finds the latest sessions of a user without reading all of them; a script may sign in every minute.
    __table_args__ = (sa.Index(None, "user_id", "last_seen_at"),)

    id_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    authenticated_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    user_agent: Mapped[str] = mapped_column(OutsideLine(200), default="")
    ip: Mapped[str] = mapped_column(OutsideLine(45), default="")
    revoked_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
