"""Organizations (customers, "tenants" in protocol field names) and who belongs to them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.user import User


class OrgState(StrEnum):
    """Life of an organization; `deleting` can be restored until the grace ends."""

    ACTIVE = "active"
    DELETING = "deleting"
    DELETED = "deleted"


class Org(Base):
    """A customer. The owner is a column that cannot be empty, so no organization has none or two."""

    __tablename__ = "orgs"
    TRANSITIONS: ClassVar = {
        OrgState.ACTIVE: frozenset({OrgState.DELETING}),
        OrgState.DELETING: frozenset({OrgState.ACTIVE, OrgState.DELETED}),
        OrgState.DELETED: frozenset(),
    }

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    slug: Mapped[str] = mapped_column(sa.String(48), unique=True)
    name: Mapped[str] = mapped_column(sa.String(100))
    owner_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id"), index=True)
    transfer_to: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    transfer_expires_at: Mapped[datetime | None]
    state: Mapped[OrgState] = mapped_column(choice(OrgState), default=OrgState.ACTIVE)
    delete_after: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """When container and volumes went; the slug stays reserved for a while after that."""
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    owner: Mapped[User] = relationship(foreign_keys=[owner_id])


class MembershipRole(StrEnum):
    """The stored role. "Owner" is not stored here: it is `Org.owner_id`."""

    ADMIN = "admin"
    MEMBER = "member"


class MembershipState(StrEnum):
    """Removed rows stay as tombstones, so that a later return is newer than the old removal."""

    ACTIVE = "active"
    REMOVED = "removed"


class Membership(Base):
    """A user in an organization. The owner always has an active row too."""

    __tablename__ = "memberships"
    __table_args__ = (sa.UniqueConstraint("org_id", "user_id"),)

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id"), index=True)
    role: Mapped[MembershipRole] = mapped_column(choice(MembershipRole), default=MembershipRole.MEMBER)
    state: Mapped[MembershipState] = mapped_column(choice(MembershipState), default=MembershipState.ACTIVE)
    version: Mapped[int] = mapped_column(default=1)
    joined_at: Mapped[datetime] = mapped_column(default=utcnow)

    user: Mapped[User] = relationship()
    org: Mapped[Org] = relationship()
