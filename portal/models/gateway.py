"""Tables of the gateway: tickets and sessions of browsers, keys of assertions, running gateway processes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, new_id, utcnow
from portal.models.encrypted import EncryptedJSON


def _portal_session() -> Any:
    """Return the column with the portal session. It follows when the portal session gets a new token."""
    key = sa.ForeignKey("sessions.id_hash", ondelete="CASCADE", onupdate="CASCADE")
    return mapped_column(sa.String(64), key, index=True)


class GatewayTicket(Base):
    """A one-time right to start a session on the host of one bot. Only the SHA-256 of ticket and state are stored."""

    __tablename__ = "gateway_tickets"

    token_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"))
    portal_session: Mapped[str] = _portal_session()
    state_hash: Mapped[str] = mapped_column(sa.String(64))
    """Binds the ticket to the browser that asked for it, by its state cookie."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class GatewaySession(Base):
    """The session of one browser on the host of one bot. It ends with the portal session."""

    __tablename__ = "gateway_sessions"

    token_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"))
    portal_session: Mapped[str] = _portal_session()
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class AssertionKey(Base):
    """A key pair that signs assertions of identity. The private key is encrypted."""

    __tablename__ = "assertion_keys"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    public_key: Mapped[str] = mapped_column(sa.String(64))
    """The raw Ed25519 key, base64url without padding."""
    private_key: Mapped[Any] = mapped_column(EncryptedJSON)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class GatewayProcess(Base):
    """A running gateway process. Updates of bots wait until no process forwards requests to the bot any more."""

    __tablename__ = "gateway_processes"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    held: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Number of requests that still run, by the id of each update whose bot this process holds requests for."""
