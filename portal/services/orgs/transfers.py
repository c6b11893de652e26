"""Handing an organization over: its owner offers it to a member, who accepts within three days or declines.

The owner is one column of the organization's row, set by one compare-and-set, so there never are two owners or none.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    EventTag,
    Membership,
    MembershipRole,
    MembershipState,
    Org,
    OrgState,
    SyncRole,
    User,
    update_where,
)
from portal.policy import Action
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.mail import outbox
from portal.services.orgs import member_sync, memberships, orgs

OFFER_LIFETIME = timedelta(hours=72)

_GONE = "This offer does not stand any more: it was taken back, expired, or was never made to you."


def offer_ownership(session: Session, org: Org, user_id: str, *, actor: User, now: datetime) -> None:
    """Offer the ownership to an active member, who is told by mail. It replaces an offer made before.

    Raises:
        ForbiddenError: the actor is not the owner (any more).
        InvalidError: that person is no member.
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.TRANSFER_OWNERSHIP)
    target = session.get(User, user_id)
    row = memberships.find_membership(session, org, target) if target else None
    if target is None or row is None or row.state is not MembershipState.ACTIVE or target.id == org.owner_id:
        raise InvalidError("Choose somebody who belongs to this organization.", "user_id")
    org.transfer_to, org.transfer_expires_at = target.id, now + OFFER_LIFETIME
    org.version += 1
    session.flush()
    events.record(session, EventTag.TRANSFER_OFFERED, actor=actor, org_id=org.id, data={"user_id": target.id})
    outbox.queue_mail(
        session,
        to=target.email,
        template="ownership_offered",
        dedupe_key=f"ownership:{org.id}:{org.version}",
        context={"org_id": org.id, "user_id": target.id},
    )


def accept_ownership(session: Session, org: Org, user: User, now: datetime) -> None:
    """Become the owner; the one before stays as an admin.

    Raises:
        ConflictError: there is no such offer (any more), or the organization is being deleted.
    """
    org = orgs.lock_org(session, org)
    orgs.require_active(org)
    old_owner = org.owner
    if not _swap(session, org, user, now):
        raise ConflictError(_GONE)
    for person in (old_owner, user):
        row = _as_admin(session, org, person)
        member_sync.set_desired_role(session, org, row.user, SyncRole.OWNER if person is user else SyncRole.ADMIN)
    data = {"old": old_owner.id, "new": user.id}
    events.record(session, EventTag.TRANSFER_ACCEPTED, actor=user.id, org_id=org.id, data=data)


def decline_ownership(session: Session, org: Org, user: User) -> None:
    """Turn down an offer made to oneself.

    Raises:
        ConflictError: there is none.
    """
    org = orgs.lock_org(session, org)
    if org.transfer_to != user.id:
        raise ConflictError(_GONE)
    _end(session, org, EventTag.TRANSFER_DECLINED, actor=user)


def withdraw_offer(session: Session, org: Org, actor: User) -> None:
    """Take back one's offer; without one nothing changes.

    Raises:
        ForbiddenError: the actor is not the owner (any more).
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.TRANSFER_OWNERSHIP)
    if org.transfer_to is not None:
        _end(session, org, EventTag.TRANSFER_WITHDRAWN, actor=actor)


def expire_offers(session: Session, now: datetime) -> None:
    """End every offer whose time is over."""
    over = sa.select(Org).where(Org.transfer_expires_at <= now).with_for_update()
    for org in session.scalars(over).all():
        _end(session, org, EventTag.TRANSFER_EXPIRED, actor=None)


def find_offered_user_id(org: Org, now: datetime) -> str | None:
    """Id of the user to whom a standing offer was made."""
    stands = org.transfer_expires_at is not None and org.transfer_expires_at > now
    return org.transfer_to if stands and org.state is OrgState.ACTIVE else None


def find_offered_user(session: Session, org: Org, now: datetime) -> User | None:
    """The person to whom the organization is offered now."""
    user_id = find_offered_user_id(org, now)
    return session.get(User, user_id) if user_id else None


def _swap(session: Session, org: Org, user: User, now: datetime) -> bool:
    belongs = sa.exists().where(
        Membership.org_id == org.id, Membership.user_id == user.id, Membership.state == MembershipState.ACTIVE
    )
    conditions = (
        Org.id == org.id,
        Org.owner_id == org.owner_id,
        Org.transfer_to == user.id,
        Org.transfer_expires_at > now,
        Org.state == OrgState.ACTIVE,
        belongs,
    )
    values = {"owner_id": user.id, "transfer_to": None, "transfer_expires_at": None, "version": Org.version + 1}
    changed = update_where(session, Org, *conditions, **values)
    session.refresh(org)
    return changed == 1


def _as_admin(session: Session, org: Org, person: User) -> Membership:
    """The stored role of an owner, past and present, is admin."""
    row = memberships.find_membership(session, org, person)
    if row is None:
        row = Membership(org_id=org.id, user_id=person.id, version=0)
        session.add(row)
    row.role, row.state = MembershipRole.ADMIN, MembershipState.ACTIVE
    row.version += 1
    session.flush()
    return row


def _end(session: Session, org: Org, tag: EventTag, *, actor: User | None) -> None:
    data = {"user_id": org.transfer_to}
    org.transfer_to = org.transfer_expires_at = None
    org.version += 1
    session.flush()
    events.record(session, tag, actor=actor, org_id=org.id, data=data)
