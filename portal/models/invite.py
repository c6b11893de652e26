"""Tables of invites and of the links to them. An invite offers a role in an organization to an email address."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.org import Org
from portal.models.user import User
from portal.rules.roles import MembershipRole


class InviteState(StrEnum):
    """Life of an invite. Expiry is no state: a pending invite expires at `Invite.expires_at`."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REVOKED = "revoked"


class Invite(Base):
    """An invite to one email address. An organization has at most one pending invite per address."""

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
    """How a link reaches its reader. A mailed link proves that the reader has the address; a copied link does not."""

    MAILED = "mailed"
    COPIED = "copied"


class InviteToken(Base):
    """One link to an invite. A newer mailed link replaces the older mailed links; copied links stay valid."""

    __tablename__ = "invite_tokens"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    invite_id: Mapped[str] = mapped_column(sa.ForeignKey("organization_invites.id", ondelete="CASCADE"), index=True)
    delivery: Mapped[TokenDelivery] = mapped_column(choice(TokenDelivery))
    generation: Mapped[int] = mapped_column(default=1)
    token_hash: Mapped[str | None] = mapped_column(sa.String(64), unique=True)
    """SHA-256 of the token; None until the worker has sent the mail."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    replaced_at: Mapped[datetime | None]

    invite: Mapped[Invite] = relationship(backref="tokens")
