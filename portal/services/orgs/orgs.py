"""Finding and locking organizations, and the roles of a user in them. Used by all services on organizations."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Membership, MembershipState, Org, OrgState, User
from portal.policy import Action, can
from portal.rules.roles import Role
from portal.services.accounts import accounts
from portal.services.errors import ConflictError, ForbiddenError, InvalidError

# Each request to a page of an organization executes these, so they are built once.
_ORG_BY_SLUG = sa.select(Org).where(Org.slug == sa.bindparam("slug"), Org.state != OrgState.DELETED)
_ACTIVE_MEMBERSHIP = (
    sa.select(Membership)
    .where(
        Membership.org_id == sa.bindparam("org_id"),
        Membership.user_id == sa.bindparam("user_id"),
        Membership.state == MembershipState.ACTIVE,
    )
    .execution_options(populate_existing=True)
)


def find_by_slug(session: Session, slug: str) -> Org | None:
    """Return the organization with that slug, or None where it does not exist or is deleted."""
    return session.scalar(_ORG_BY_SLUG, {"slug": slug})


def lock_org(session: Session, org: Org) -> Org:
    """Lock the row of the organization until the transaction ends, and read it again.

    Every change of memberships, invites and ownership takes this lock first, so that the second of two concurrent
    changes sees the result of the first. SQLite needs no lock, because it has a single writer.
    """
    statement = sa.select(Org).where(Org.id == org.id).with_for_update()
    return session.scalars(statement.execution_options(populate_existing=True)).one()


def lock_org_for_action(session: Session, org: Org, action: Action, *, actor: User) -> Org:
    """Lock the organization for an action, and check under the lock that the actor has the right to it.

    Raises:
        ForbiddenError: the actor has no right to the action.
        ConflictError: the organization is being deleted.
    """
    org = lock_org(session, org)
    if not can(list_roles(session, org, actor), action):
        raise ForbiddenError("Your role in this organization no longer allows this.")
    require_active(org)
    return org


def lock_active_org(session: Session, org_id: str) -> Org:
    """Lock the organization of a bot, so that its deletion and a change of the bot never mix.

    Raises:
        ConflictError: the organization is being deleted.
    """
    org = lock_org(session, session.get_one(Org, org_id))
    require_active(org)
    return org


def require_active(org: Org) -> None:
    """Raise an error unless the organization is active.

    Raises:
        ConflictError: the organization is being deleted.
    """
    if org.state is not OrgState.ACTIVE:
        raise ConflictError(f"{org.name} is being deleted. Its owner can restore it; then try again.")


def list_roles(session: Session, org: Org, user: User) -> frozenset[Role]:
    """Read the roles of a user in the organization from the current rows; empty for outsiders."""
    roles: set[Role] = set()
    if user.is_platform_admin:
        roles.add(Role.OPERATOR)
    membership = session.scalar(_ACTIVE_MEMBERSHIP, {"org_id": org.id, "user_id": user.id})
    if org.owner_id == user.id:
        roles.add(Role.OWNER)
    elif membership:
        roles.add(org.role_of(membership))
    return frozenset(roles)


def was_member(session: Session, org: Org, user: User) -> bool:
    """Whether the user is a former member, whose membership row stays as a tombstone."""
    removed = (Membership.user_id == user.id) & (Membership.state == MembershipState.REMOVED)
    return session.scalar(sa.select(Membership.id).where(Membership.org_id == org.id, removed)) is not None


def list_for_user(session: Session, user: User) -> list[Org]:
    """List the organizations that a user belongs to, by name."""
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


def lock_future_owner(session: Session, user: User, max_owned: int | None) -> User:
    """Lock the account of a user who will own one more organization, and check that the user may own one more.

    Args:
        session: a writing transaction.
        user: the future owner.
        max_owned: how many organizations one user may own, including those being deleted; None for no limit.

    Raises:
        InvalidError: the user owns as many already.
        ConflictError: the account was deleted.
    """
    locked = accounts.lock_active(session, user.id)
    owned = sa.select(sa.func.count()).where(Org.owner_id == user.id, Org.state != OrgState.DELETED)
    if max_owned is not None and (session.scalar(owned) or 0) >= max_owned:
        number = (
            f"at most {max_owned} organization{'' if max_owned == 1 else 's'}" if max_owned else "no organization"
        )
        raise InvalidError(f"One person can own {number}. Ask your provider if you need another one.", "name")
    return locked


def find_bot(session: Session, org: Org, bot_id: str) -> Bot | None:
    """Return a bot of the organization, or None where the organization has no such bot."""
    return session.scalar(sa.select(Bot).where(Bot.id == bot_id, Bot.org_id == org.id))


def find_bot_by_subdomain(session: Session, subdomain: str) -> Bot | None:
    """Return the bot at a subdomain, or None where there is none."""
    return session.scalar(sa.select(Bot).where(Bot.subdomain == subdomain))
