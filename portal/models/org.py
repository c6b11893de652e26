"""Tables of organizations and memberships. A customer is an organization; protocols call it a tenant."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, literal, new_id, partial_index, utcnow
from portal.models.user import User
from portal.rules.roles import MembershipRole, Role


class OrgState(StrEnum):
    """Life of an organization. It can be restored while it is `deleting`, until `Org.delete_after`."""

    ACTIVE = "active"
    DELETING = "deleting"
    DELETED = "deleted"


class Org(Base):
    """A customer. The owner is a column that cannot be empty, so every organization has exactly one owner."""

    __tablename__ = "orgs"
    __table_args__ = (
        partial_index("ix_orgs_inactive", "id", "state <> 'active'"),
        # The order of the list of the fleet.
        sa.Index("ix_orgs_listing", "name", "id", "state"),
    )
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
    """When the bots were removed. The slug stays reserved for `slugs.KEPT_AFTER_DELETION` after that."""
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    owner: Mapped[User] = relationship(foreign_keys=[owner_id])

    @classmethod
    def is_inactive(cls) -> sa.ColumnElement[bool]:
        """Return the condition for organizations that are deleted or will be."""
        return cls.state != literal(OrgState.ACTIVE)

    def role_of(self, membership: Membership) -> Role:
        """Return the effective role of a member: `owner_id` decides who is the owner, not the stored role."""
        return Role.OWNER if membership.user_id == self.owner_id else Role(membership.role)


class MembershipState(StrEnum):
    """Life of a membership. Removed rows stay as tombstones, so that a later return has a newer version."""

    ACTIVE = "active"
    REMOVED = "removed"


class Membership(Base):
    """A user in an organization. The owner has an active row too, with the role `admin`."""

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
