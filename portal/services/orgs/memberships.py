"""Memberships of an organization: join, change role, leave, remove. Used by the team page and by invite acceptance.

Every change locks the organization's row first and checks the actor's right under that lock, so that of two admins
who remove each other only the first succeeds. The owner's row never changes here: a transfer changes the owner.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, Membership, MembershipRole, MembershipState, Org, OrgState, User
from portal.policy import Action
from portal.rules import roles
from portal.services import events
from portal.services.accounts import accounts
from portal.services.errors import ForbiddenError, NotFoundError, StaleError
from portal.services.mail import outbox
from portal.services.orgs import invite_closing, member_sync, orgs


def find_membership(session: Session, org: Org, user: User) -> Membership | None:
    """Read the current membership row of a user, which may be a tombstone."""
    statement = sa.select(Membership).where(Membership.org_id == org.id, Membership.user_id == user.id)
    return session.scalar(statement.execution_options(populate_existing=True))


def list_orgs(session: Session, user_id: str) -> list[Org]:
    """List the organizations of a user except deleted ones, in the order in which to lock several of them."""
    statement = sa.select(Org).join(Membership, Membership.org_id == Org.id)
    active = (Membership.user_id == user_id) & (Membership.state == MembershipState.ACTIVE)
    return list(session.scalars(statement.where(active, Org.state != OrgState.DELETED).order_by(Org.id)))


def add_member(
    session: Session, org: Org, user: User, role: MembershipRole, *, actor: User, now: datetime
) -> Membership:
    """Add a member, or raise the role of an existing member. This never lowers a role.

    Args:
        session: a transaction that has locked the organization (`orgs.lock_org`).
        org: the organization.
        user: the user who joins.
        role: the role to give.
        actor: the user who acted; the user who joins, where an invite was accepted.
        now: the current moment.

    Raises:
        ConflictError: the organization is being deleted, or the account was deleted.
    """
    orgs.require_active(org)
    accounts.lock_active(session, user.id)
    row = find_membership(session, org, user)
    if row is not None and row.state is MembershipState.ACTIVE:
        if roles.outranks(role, row.role):
            _set_role(session, org, row, role, actor=actor, now=now)
        return row
    if row is None:
        row = Membership(org_id=org.id, user_id=user.id, version=0)
        session.add(row)
    row.role, row.state, row.joined_at = role, MembershipState.ACTIVE, now
    row.version += 1
    session.flush()
    member_sync.set_desired_role(session, org, row, now)
    _record(session, EventTag.MEMBER_JOINED, org, row, actor=actor, role=role)
    return row


def change_role(
    session: Session,
    org: Org,
    membership_id: str,
    role: MembershipRole,
    *,
    version: int,
    actor: User,
    now: datetime,
) -> Membership:
    """Change the role of a member. The current role changes nothing.

    Args:
        session: the transaction.
        org: the organization.
        membership_id: the membership to change.
        role: the new role.
        version: the version of the row that the actor saw.
        actor: an owner or admin. Admins may lower their own role.
        now: the current moment.

    Raises:
        ForbiddenError: the actor has no right to do this, or the row is the owner's.
        NotFoundError: the organization has no such member.
        StaleError: the row was changed since the actor saw it.
        ConflictError: the organization is being deleted.
    """
    org = orgs.lock_org_for_action(session, org, Action.MANAGE_TEAM, actor=actor)
    row = _get_changeable(session, org, membership_id)
    if row.role is not role:
        _require_current_version(row, version)
        _set_role(session, org, row, role, actor=actor, now=now)
    return row


def remove_member(
    session: Session, org: Org, membership_id: str, *, version: int, actor: User, now: datetime
) -> Membership:
    """Remove a member, and close the pending invites to and from that member.

    Raises:
        ForbiddenError, NotFoundError, StaleError, ConflictError: see `change_role`.
    """
    org = orgs.lock_org_for_action(session, org, Action.MANAGE_TEAM, actor=actor)
    row = _get_changeable(session, org, membership_id)
    _require_current_version(row, version)
    _end(session, org, row, actor=actor, now=now)
    _record(session, EventTag.MEMBER_REMOVED, org, row, actor=actor, role=row.role)
    outbox.queue_mail(
        session,
        to=row.user.email,
        template="member_removed",
        dedupe_key=f"removed:{row.id}:{row.version}",
        context={"org_id": org.id, "user_id": row.user_id},
    )
    return row


def leave_org(session: Session, org: Org, *, actor: User, now: datetime) -> None:
    """End the actor's own membership. Leaving twice changes nothing.

    Raises:
        ForbiddenError: the actor owns the organization.
    """
    org = orgs.lock_org(session, org)
    if org.owner_id == actor.id:
        raise ForbiddenError("You own this organization. Transfer it to another member first, or delete it.")
    row = find_membership(session, org, actor)
    if row is None or row.state is MembershipState.REMOVED:
        return
    _end(session, org, row, actor=actor, now=now)
    _record(session, EventTag.MEMBER_LEFT, org, row, actor=actor, role=row.role)


def _get_changeable(session: Session, org: Org, membership_id: str) -> Membership:
    statement = sa.select(Membership).where(
        Membership.id == membership_id,
        Membership.org_id == org.id,
        Membership.state == MembershipState.ACTIVE,
    )
    row = session.scalar(statement.execution_options(populate_existing=True))
    if row is None:
        raise NotFoundError("This organization has no such member.")
    if row.user_id == org.owner_id:
        raise ForbiddenError(
            "The owner's role can't be changed here. The owner has to transfer the organization first."
        )
    return row


def _require_current_version(row: Membership, version: int) -> None:
    if row.version != version:
        raise StaleError(f"Another person changed {row.user.name}'s membership. Check it, then try again.")


def _set_role(
    session: Session, org: Org, row: Membership, role: MembershipRole, *, actor: User, now: datetime
) -> None:
    before, row.role = row.role, role
    row.version += 1
    session.flush()
    member_sync.set_desired_role(session, org, row, now)
    _record(session, EventTag.MEMBER_ROLE_CHANGED, org, row, actor=actor, old=before, new=role)


def _end(session: Session, org: Org, row: Membership, *, actor: User, now: datetime) -> None:
    row.state = MembershipState.REMOVED
    row.version += 1
    if org.transfer_to == row.user_id:
        org.transfer_to = org.transfer_expires_at = None
        events.record(session, EventTag.TRANSFER_ENDED, actor=actor, org_id=org.id, data={"user_id": row.user_id})
    session.flush()
    invite_closing.close_invites_of(session, org, row.user, actor=actor, now=now)
    member_sync.set_desired_role(session, org, row, now)


def _record(session: Session, tag: EventTag, org: Org, row: Membership, *, actor: User, **facts: str) -> None:
    data = {"user_id": row.user_id, "email": row.user.email, **facts}
    events.record(session, tag, actor=actor, org_id=org.id, data=data)
