"""Who belongs to an organization: joining, roles, leaving, removal.

Every change locks the organization's row first and reads the actor's right again under that lock, so of two admins
who remove each other one is too late. The owner's row is never changed here: ownership only moves by a transfer.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, Membership, MembershipRole, MembershipState, Org, OrgState, User, utcnow
from portal.policy import Action
from portal.services import events
from portal.services.accounts import accounts
from portal.services.errors import ForbiddenError, NotFoundError, StaleError
from portal.services.mail import outbox
from portal.services.orgs import invite_closing, member_sync, orgs

_OWNER_STAYS = "The owner's role cannot be changed here; the owner has to hand the organization over first."


def find_membership(session: Session, org: Org, user: User) -> Membership | None:
    """The user's row in the organization as it is now, be it active or a tombstone."""
    statement = sa.select(Membership).where(Membership.org_id == org.id, Membership.user_id == user.id)
    return session.scalar(statement.execution_options(populate_existing=True))


def list_orgs(session: Session, user_id: str) -> list[Org]:
    """The organizations a user belongs to, but for those gone for good, in the order in which to lock several."""
    statement = sa.select(Org).join(Membership, Membership.org_id == Org.id)
    mine = (Membership.user_id == user_id) & (Membership.state == MembershipState.ACTIVE)
    return list(session.scalars(statement.where(mine, Org.state != OrgState.DELETED).order_by(Org.id)))


def add_member(session: Session, org: Org, user: User, role: MembershipRole, actor: User) -> Membership:
    """Make the user a member, or raise the role of one; a role is never lowered by this.

    Args:
        session: a transaction that has locked the organization (`orgs.lock`).
        org: what the user joins.
        user: who joins.
        role: `admin` or `member`.
        actor: whose deed it is; the user's own where an invite was accepted.

    Raises:
        ConflictError: the organization is being deleted, or the user deleted the account.
    """
    orgs.require_active(org)
    accounts.lock_active(session, user.id)
    row = find_membership(session, org, user)
    if row is not None and row.state is MembershipState.ACTIVE:
        if role is MembershipRole.ADMIN and row.role is MembershipRole.MEMBER:
            _set_role(session, org, row, role, actor)
        return row
    if row is None:
        row = Membership(org_id=org.id, user_id=user.id, version=0)
        session.add(row)
    row.role, row.state, row.joined_at = role, MembershipState.ACTIVE, utcnow()
    row.version += 1
    session.flush()
    member_sync.set_desired_role(session, org, user, member_sync.synced_role(org, row))
    _record(session, EventTag.MEMBER_JOINED, org, row, actor, role=role)
    return row


def change_role(
    session: Session, org: Org, membership_id: str, role: MembershipRole, *, version: int, actor: User
) -> Membership:
    """Give a member another role; the same role again changes nothing.

    Args:
        session: the transaction.
        org: the organization.
        membership_id: whose role it is.
        role: `admin` or `member`.
        version: of the row that the actor saw.
        actor: an owner or admin; admins may step down themselves.

    Raises:
        ForbiddenError: the actor may not (any more), or it is the owner's row.
        NotFoundError: there is no such member (any more).
        StaleError: the row was changed meanwhile.
        ConflictError: the organization is being deleted.
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.MANAGE_TEAM)
    row = _changeable(session, org, membership_id)
    if row.role is not role:
        _require_fresh(row, version)
        _set_role(session, org, row, role, actor)
    return row


def remove_member(
    session: Session, org: Org, membership_id: str, *, version: int, actor: User, now: datetime
) -> Membership:
    """End somebody's membership, together with the pending invites to them and from them.

    Raises:
        ForbiddenError, NotFoundError, StaleError, ConflictError: as `change_role`.
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.MANAGE_TEAM)
    row = _changeable(session, org, membership_id)
    _require_fresh(row, version)
    _end(session, org, row, actor, now)
    _record(session, EventTag.MEMBER_REMOVED, org, row, actor, role=row.role)
    outbox.queue_mail(
        session,
        to=row.user.email,
        template="member_removed",
        dedupe_key=f"removed:{row.id}:{row.version}",
        context={"org_id": org.id, "user_id": row.user_id},
    )
    return row


def leave_org(session: Session, org: Org, user: User, now: datetime) -> None:
    """End one's own membership; leaving twice changes nothing.

    Raises:
        ForbiddenError: the user owns the organization.
    """
    org = orgs.lock_org(session, org)
    if org.owner_id == user.id:
        raise ForbiddenError("You own this organization. Hand it over to somebody else first, or delete it.")
    row = find_membership(session, org, user)
    if row is None or row.state is MembershipState.REMOVED:
        return
    _end(session, org, row, user, now)
    _record(session, EventTag.MEMBER_LEFT, org, row, user, role=row.role)


def _changeable(session: Session, org: Org, membership_id: str) -> Membership:
    statement = sa.select(Membership).where(
        Membership.id == membership_id,
        Membership.org_id == org.id,
        Membership.state == MembershipState.ACTIVE,
    )
    row = session.scalar(statement.execution_options(populate_existing=True))
    if row is None:
        raise NotFoundError("There is no such member in this organization (any more).")
    if row.user_id == org.owner_id:
        raise ForbiddenError(_OWNER_STAYS)
    return row


def _require_fresh(row: Membership, version: int) -> None:
    if row.version != version:
        raise StaleError(f"{row.user.name} was changed by somebody else meanwhile. Look again, then decide.")


def _set_role(session: Session, org: Org, row: Membership, role: MembershipRole, actor: User) -> None:
    before, row.role = row.role, role
    row.version += 1
    session.flush()
    member_sync.set_desired_role(session, org, row.user, member_sync.synced_role(org, row))
    _record(session, EventTag.MEMBER_ROLE_CHANGED, org, row, actor, old=before, new=role)


def _end(session: Session, org: Org, row: Membership, actor: User, now: datetime) -> None:
    row.state = MembershipState.REMOVED
    row.version += 1
    if org.transfer_to == row.user_id:
        org.transfer_to = org.transfer_expires_at = None
        events.record(session, EventTag.TRANSFER_ENDED, actor=actor, org_id=org.id, data={"user_id": row.user_id})
    session.flush()
    invite_closing.close_invites_of(session, org, row.user, actor, now)
    member_sync.set_desired_role(session, org, row.user, member_sync.synced_role(org, row))


def _record(session: Session, tag: EventTag, org: Org, row: Membership, actor: User, **facts: str) -> None:
    data = {"user_id": row.user_id, "email": row.user.email, **facts}
    events.record(session, tag, actor=actor, org_id=org.id, data=data)
