"""Deletion of an organization: request it, restore within the grace period. Purging is in `portal.services.bots`.

The bots stop at once. After `GRACE_PERIOD` the daemon removes the bots and their data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer

from portal.models import Bot, BotPhase, DesiredState, EventTag, Org, OrgState, User, move
from portal.policy import Action, can
from portal.services import events
from portal.services.errors import ConflictError, ForbiddenError, InvalidError
from portal.services.mail import outbox
from portal.services.orgs import invite_closing, member_list, orgs

GRACE_PERIOD = timedelta(days=7)
"""How long a deleted organization can be restored."""


@dataclass(frozen=True)
class DeletionExtent:
    """How many bots and people a deletion affects."""

    bots: int
    people: int


def measure_extent(session: Session, org: Org) -> DeletionExtent:
    """Count the bots and people that a deletion of the organization affects."""
    count = sa.select(sa.func.count()).where(Bot.org_id == org.id, Bot.phase != BotPhase.REMOVED)
    bots = session.scalar(count) or 0
    return DeletionExtent(bots=bots, people=len(member_list.list_people(session, org)))


def request_deletion(session: Session, org: Org, *, typed_name: str, actor: User, now: datetime) -> Sequence[Bot]:
    """Start the deletion: stop the bots, revoke the invites, mail all members, and start the grace period.

    Args:
        session: the transaction.
        org: the organization.
        typed_name: the name of the organization, as the owner typed it to confirm.
        actor: the owner, who has confirmed with the password.
        now: the current moment.

    Returns:
        The bots that a worker has to stop.

    Raises:
        InvalidError: the typed name is not the organization's name.
        ForbiddenError: the actor is not the owner.
        ConflictError: the organization is already being deleted.
    """
    org = orgs.lock_org_for_action(session, org, Action.DELETE_ORG, actor=actor)
    if typed_name.strip() != org.name:
        raise InvalidError(f"Type the name of the organization exactly: {org.name}", "name")
    moved = move(
        session,
        org,
        OrgState.ACTIVE,
        OrgState.DELETING,
        delete_after=now + GRACE_PERIOD,
        transfer_to=None,
        transfer_expires_at=None,
        version=Org.version + 1,
    )
    if not moved:
        raise ConflictError("This organization is already being deleted.")
    invite_closing.close_all_invites(session, org, actor=actor, now=now)
    bots = _lock_bots(session, org)
    for bot in bots:
        bot.desired_when_restored, bot.desired_state = bot.desired_state, DesiredState.STOPPED
    data = {"bots": len(bots), "delete_after": (now + GRACE_PERIOD).isoformat()}
    events.record(session, EventTag.ORG_DELETION_REQUESTED, actor=actor, org_id=org.id, data=data)
    _mail_members(session, org)
    return bots


def restore(session: Session, org: Org, *, actor: User, now: datetime) -> Sequence[Bot]:
    """Restore an organization as its owner. Bots that ran before the deletion run again.

    Returns:
        The bots whose desired state a worker has to apply.

    Raises:
        ForbiddenError: the actor is not the owner.
        ConflictError: the organization is not being deleted, or the grace period has ended.
    """
    org = orgs.lock_org(session, org)
    if not can(orgs.list_roles(session, org, actor), Action.DELETE_ORG):
        raise ForbiddenError("Only the owner can restore this organization.")
    return _restore(session, org, actor=actor, now=now)


def restore_as_operator(session: Session, org: Org, *, actor: User | None, now: datetime) -> Sequence[Bot]:
    """Restore an organization as an operator. The actor is None for the command line.

    Returns:
        The bots whose desired state a worker has to apply.

    Raises:
        ConflictError: see `restore`.
    """
    return _restore(session, orgs.lock_org(session, org), actor=actor, now=now)


def _restore(session: Session, org: Org, *, actor: User | None, now: datetime) -> Sequence[Bot]:
    if org.delete_after is None or org.delete_after <= now:
        raise ConflictError("It is too late: this organization can no longer be restored.")
    if not move(session, org, OrgState.DELETING, OrgState.ACTIVE, delete_after=None, version=Org.version + 1):
        raise ConflictError("This organization is not being deleted.")
    bots = _lock_bots(session, org)
    for bot in bots:
        if bot.desired_when_restored is not None:
            bot.desired_state, bot.desired_when_restored = bot.desired_when_restored, None
    events.record(session, EventTag.ORG_RESTORED, actor=actor, org_id=org.id, data={"bots": len(bots)})
    return bots


def _lock_bots(session: Session, org: Org) -> Sequence[Bot]:
    # A bot that is already being removed is stopped, and restoring the organization does not restore it.
    affected = Bot.phase.in_((BotPhase.CREATING, BotPhase.ACTIVE))
    query = sa.select(Bot).where(Bot.org_id == org.id, affected)
    query = query.options(defer(Bot.spec), defer(Bot.provision_secret))
    return session.scalars(query.order_by(Bot.id).with_for_update()).all()


def _mail_members(session: Session, org: Org) -> None:
    for user in member_list.list_people(session, org):
        outbox.queue_mail(
            session,
            to=user.email,
            template="org_deletion",
            dedupe_key=f"deletion:{org.id}:{org.version}:{user.id}",
            context={"org_id": org.id, "user_id": user.id},
        )
