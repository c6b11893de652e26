"""Invites: offers by email to join an organization with a role."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.org import MembershipRole, Org
from portal.models.user import User


class InviteState(StrEnum):
    """Life of an invite. It expires by its date, not by a state."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REVOKED = "revoked"


class Invite(Base):
    """An offer to one address; at most one is pending for an organization and address."""

    __tablename__ = "organization_invites"
    __table_args__ = (
        sa.Index(
            "uq_organization_invites_pending",
            "org_id",
            "email_normalized",
            unique=True,
            sqlite_where=sa.text("state = 'pending'"),
            postgresql_where=sa.text("state = 'pending'"),
        ),
    )
    TRANSITIONS: ClassVar = {
        InviteState.PENDING: frozenset({InviteState.ACCEPTED, InviteState.DECLINED, InviteState.REVOKED}),
        InviteState.ACCEPTED: frozenset(),
        InviteState.DECLINED: frozenset(),
        InviteState.REVOKED: frozenset(),
    }

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id", ondelete="CASCADE"), index=True)
    email: Mapped[str] = mapped_column(sa.String(254))
    email_normalized: Mapped[str] = mapped_column(sa.String(254), index=True)
    role: Mapped[MembershipRole] = mapped_column(choice(MembershipRole))
    state: Mapped[InviteState] = mapped_column(choice(InviteState), default=InviteState.PENDING)
    invited_by: Mapped[str] = mapped_column(sa.ForeignKey("users.id"), index=True)
    accepted_by: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    org: Mapped[Org] = relationship()
    inviter: Mapped[User] = relationship(foreign_keys=[invited_by])


class TokenDelivery(StrEnum):
    """How a link reached its reader: a mailed one proves the address, a copied one does not."""

    MAILED = "mailed"
    COPIED = "copied"


class InviteToken(Base):
    """One link of an invite. A newer mailed one replaces the older mailed one; copied ones stand beside it."""

    __tablename__ = "invite_tokens"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    invite_id: Mapped[str] = mapped_column(sa.ForeignKey("organization_invites.id", ondelete="CASCADE"), index=True)
    delivery: Mapped[TokenDelivery] = mapped_column(choice(TokenDelivery))
    generation: Mapped[int] = mapped_column(default=1)
    token_hash: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    """None until the worker sent the mail."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    replaced_at: Mapped[datetime | None]

    invite: Mapped[Invite] = relationship(backref="tokens")
