"""Transfers of ownership: the owner offers the organization to a member, who accepts or declines within three days.

The owner is one column of the organization's row, set by one compare-and-set, so there is always exactly one owner.
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
    User,
    update_where,
)
from portal.policy import Action
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.mail import outbox
from portal.services.orgs import member_sync, memberships, orgs

OFFER_LIFETIME = timedelta(hours=72)

_NO_OFFER = "There is no such offer. It was withdrawn, has expired, or is for another person."


def offer_ownership(session: Session, org: Org, user_id: str, *, actor: User, now: datetime) -> None:
    """Offer the ownership to an active member and mail both. A new offer replaces the previous one.

    Args:
        session: the transaction.
        org: the organization.
        user_id: the member.
        actor: the owner, who has confirmed with the password.
        now: the current moment.

    Raises:
        ForbiddenError: the actor is not the owner.
        InvalidError: the user is no other member.
    """
    org = orgs.lock_org_for_action(session, org, Action.TRANSFER_OWNERSHIP, actor=actor)
    target = session.get(User, user_id)
    row = memberships.find_membership(session, org, target) if target else None
    if target is None or row is None or row.state is not MembershipState.ACTIVE or target.id == org.owner_id:
        raise InvalidError("Choose a member of this organization.", "user_id")
    org.transfer_to, org.transfer_expires_at = target.id, now + OFFER_LIFETIME
    org.version += 1
    session.flush()
    events.record(session, EventTag.TRANSFER_OFFERED, actor=actor, org_id=org.id, data={"user_id": target.id})
    _mail(session, org, "ownership_offered", target, target)
    # A person who uses the owner's browser cannot offer the ownership without the owner's knowledge.
    _mail(session, org, "ownership_offer_sent", org.owner, target)


def accept_ownership(session: Session, org: Org, *, actor: User, now: datetime, max_owned: int | None = None) -> None:
    """Make the actor the owner and mail both. The previous owner becomes an admin.

    Args:
        session: the transaction.
        org: the organization.
        actor: the user who accepts.
        now: the current moment.
        max_owned: how many organizations one user may own; None for no limit.

    Raises:
        InvalidError: the actor owns too many organizations.
        ConflictError: there is no valid offer to the actor, or the organization is being deleted.
    """
    org = orgs.lock_org(session, org)
    orgs.require_active(org)
    orgs.lock_future_owner(session, actor, max_owned)
    old_owner = org.owner
    if not _change_owner(session, org, actor, now):
        raise ConflictError(_NO_OFFER)
    member_sync.lock_rows(session, old_owner.id, actor.id)
    for user in (old_owner, actor):
        membership = _store_as_admin(session, org, user)
        member_sync.set_desired_role(session, org, membership, now)
        _mail(session, org, "ownership_transferred", user, actor)
    data = {"old": old_owner.id, "new": actor.id}
    events.record(session, EventTag.TRANSFER_ACCEPTED, actor=actor, org_id=org.id, data=data)


def decline_ownership(session: Session, org: Org, *, actor: User) -> None:
    """Decline an offer that was made to the actor.

    Raises:
        ConflictError: there is no offer to the actor.
    """
    org = orgs.lock_org(session, org)
    if org.transfer_to != actor.id:
        raise ConflictError(_NO_OFFER)
    _end_offer(session, org, EventTag.TRANSFER_DECLINED, actor=actor)


def withdraw_offer(session: Session, org: Org, *, actor: User) -> None:
    """Withdraw the offer. Without an offer nothing changes.

    Raises:
        ForbiddenError: the actor is not the owner.
    """
    org = orgs.lock_org_for_action(session, org, Action.TRANSFER_OWNERSHIP, actor=actor)
    if org.transfer_to is not None:
        _end_offer(session, org, EventTag.TRANSFER_WITHDRAWN, actor=actor)


def expire_offers(session: Session, now: datetime) -> None:
    """End every offer that has expired. The scheduler calls this."""
    expired = sa.select(Org).where(Org.transfer_expires_at <= now).with_for_update()
    for org in session.scalars(expired).all():
        _end_offer(session, org, EventTag.TRANSFER_EXPIRED, actor=None)


def end_all_offers(session: Session) -> int:
    """Withdraw all offers, valid or not, and return their number. The command line does this after a restore."""
    offered = session.scalars(sa.select(Org).where(Org.transfer_to.is_not(None)).with_for_update()).all()
    for org in offered:
        _end_offer(session, org, EventTag.TRANSFER_WITHDRAWN, actor=None)
    return len(offered)


def find_offered_user_id(org: Org, now: datetime) -> str | None:
    """Return the id of the user who has a valid offer, or None."""
    is_valid = org.transfer_expires_at is not None and org.transfer_expires_at > now
    return org.transfer_to if is_valid and org.state is OrgState.ACTIVE else None


def find_offered_user(session: Session, org: Org, now: datetime) -> User | None:
    """Return the user who has a valid offer, or None."""
    user_id = find_offered_user_id(org, now)
    return session.get(User, user_id) if user_id else None


def _change_owner(session: Session, org: Org, user: User, now: datetime) -> bool:
    is_member = sa.exists().where(
        Membership.org_id == org.id, Membership.user_id == user.id, Membership.state == MembershipState.ACTIVE
    )
    conditions = (
        Org.id == org.id,
        Org.owner_id == org.owner_id,
        Org.transfer_to == user.id,
        Org.transfer_expires_at > now,
        Org.state == OrgState.ACTIVE,
        is_member,
    )
    values = {"owner_id": user.id, "transfer_to": None, "transfer_expires_at": None, "version": Org.version + 1}
    changed = update_where(session, Org, *conditions, **values)
    session.refresh(org)
    return changed == 1


def _mail(session: Session, org: Org, template: str, user: User, target: User) -> None:
    outbox.queue_mail(
        session,
        to=user.email,
        template=template,
        dedupe_key=f"{template}:{org.id}:{org.version}:{user.id}",
        context={"org_id": org.id, "user_id": user.id, "target_id": target.id},
    )


def _store_as_admin(session: Session, org: Org, user: User) -> Membership:
    """Store the membership of a previous or new owner, whose stored role is admin."""
    row = memberships.find_membership(session, org, user)
    if row is None:
        row = Membership(org_id=org.id, user_id=user.id, version=0)
        session.add(row)
    row.role, row.state = MembershipRole.ADMIN, MembershipState.ACTIVE
    row.version += 1
    session.flush()
    return row


def _end_offer(session: Session, org: Org, tag: EventTag, *, actor: User | None) -> None:
    data = {"user_id": org.transfer_to}
    org.transfer_to = org.transfer_expires_at = None
    org.version += 1
    session.flush()
    events.record(session, tag, actor=actor, org_id=org.id, data=data)
