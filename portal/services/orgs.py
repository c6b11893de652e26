"""Organizations as their people see them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Membership, MembershipState, Org, OrgState, User
from portal.policy import Role


def by_slug(session: Session, slug: str) -> Org | None:
    """The organization with that slug, unless it is gone for good."""
    return session.scalar(sa.select(Org).where(Org.slug == slug, Org.state != OrgState.DELETED))


def roles(session: Session, org: Org, user: User) -> frozenset[Role]:
    """What the user is to the organization, read from the rows as they are now; empty for outsiders."""
    found: set[Role] = set()
    if user.is_platform_admin:
        found.add(Role.OPERATOR)
    if org.owner_id == user.id:
        found.add(Role.OWNER)
    membership = session.scalar(
        sa.select(Membership).where(
            Membership.org_id == org.id,
            Membership.user_id == user.id,
            Membership.state == MembershipState.ACTIVE,
        )
    )
    if membership:
        found.add(Role(membership.role))
    return frozenset(found)


def of_user(session: Session, user: User) -> list[Org]:
    """The organizations a user belongs to, by name."""
    statement = (
        sa.select(Org)
        .outerjoin(Membership, (Membership.org_id == Org.id) & (Membership.user_id == user.id))
        .where(
            Org.state != OrgState.DELETED,
            (Org.owner_id == user.id) | (Membership.state == MembershipState.ACTIVE),
        )
        .order_by(Org.name)
    )
    return list(session.scalars(statement))


def bot(session: Session, org: Org, bot_id: str) -> Bot | None:
    """A bot of that organization."""
    return session.scalar(sa.select(Bot).where(Bot.id == bot_id, Bot.org_id == org.id))
