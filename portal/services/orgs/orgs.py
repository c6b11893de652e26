"""Organizations as their people see them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Membership, MembershipState, Org, OrgState, User
from portal.policy import Action, Role, can
from portal.services.errors import ConflictError, ForbiddenError


def find_by_slug(session: Session, slug: str) -> Org | None:
    """The organization with that slug, unless it is gone for good."""
    return session.scalar(sa.select(Org).where(Org.slug == slug, Org.state != OrgState.DELETED))


def lock_org(session: Session, org: Org) -> Org:
    """Lock the organization's row until the transaction ends, and read it again as it is now.

    Every change of memberships, invites and ownership does this first, so of two that race one sees what the
    other did. SQLite has one writer anyway.
    """
    statement = sa.select(Org).where(Org.id == org.id).with_for_update()
    return session.scalars(statement.execution_options(populate_existing=True)).one()


def lock_org_for_action(session: Session, org: Org, actor: User, action: Action) -> Org:
    """Lock the organization for somebody's action, whose right is read again under the lock.

    Raises:
        ForbiddenError: the actor may not do that (any more).
        ConflictError: the organization is being deleted.
    """
    org = lock_org(session, org)
    if not can(list_roles(session, org, actor), action):
        raise ForbiddenError("Your role in this organization does not allow this any more.")
    require_active(org)
    return org


def require_active(org: Org) -> None:
    """Do nothing for an organization that lives.

    Raises:
        ConflictError: it is being deleted.
    """
    if org.state is not OrgState.ACTIVE:
        raise ConflictError(f"{org.name} is being deleted. Its owner can restore it; then try again.")


def list_roles(session: Session, org: Org, user: User) -> frozenset[Role]:
    """What the user is to the organization, read from the rows as they are now; empty for outsiders."""
    found: set[Role] = set()
    if user.is_platform_admin:
        found.add(Role.OPERATOR)
    membership = session.scalar(
        sa.select(Membership)
        .where(
            Membership.org_id == org.id,
            Membership.user_id == user.id,
            Membership.state == MembershipState.ACTIVE,
        )
        .execution_options(populate_existing=True)
    )
    if org.owner_id == user.id:
        found.add(Role.OWNER)
    elif membership:
        found.add(Role(membership.role))
    return frozenset(found)


def was_member(session: Session, org: Org, user: User) -> bool:
    """Whether the user was a member once; that row stays as a tombstone."""
    gone = (Membership.user_id == user.id) & (Membership.state == MembershipState.REMOVED)
    return session.scalar(sa.select(Membership.id).where(Membership.org_id == org.id, gone)) is not None


def list_for_user(session: Session, user: User) -> list[Org]:
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


def find_bot(session: Session, org: Org, bot_id: str) -> Bot | None:
    """A bot of that organization."""
    return session.scalar(sa.select(Bot).where(Bot.id == bot_id, Bot.org_id == org.id))
