"""Deleting an organization: its bots stop at once, everything can be taken back for a week, then it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer

from portal.models import Bot, DesiredState, EventTag, Org, OrgState, User, move
from portal.policy import Action, can
from portal.services import events
from portal.services.errors import ConflictError, ForbiddenError, InvalidError
from portal.services.mail import outbox
from portal.services.orgs import member_list, orgs

GRACE_PERIOD = timedelta(days=7)


@dataclass(frozen=True)
class DeletionExtent:
    """What a deletion would hit."""

    bots: int
    people: int


def measure_extent(session: Session, org: Org) -> DeletionExtent:
    """Count what a deletion of the organization would hit."""
    bots = session.scalar(sa.select(sa.func.count()).where(Bot.org_id == org.id)) or 0
    return DeletionExtent(bots=bots, people=len(member_list.list_people(session, org)))


def request_deletion(session: Session, org: Org, *, typed_name: str, actor: User, now: datetime) -> Sequence[Bot]:
    """Begin the deletion: its bots are to stop, everybody is told by mail, and `GRACE` begins.

    Args:
        session: the transaction.
        org: the organization.
        typed_name: what the owner typed to confirm: the organization's name.
        actor: the owner, whose password was asked for again.
        now: the present.

    Returns:
        The bots that a worker has to stop.

    Raises:
        InvalidError: the typed name is not the organization's.
        ForbiddenError: the actor is not the owner (any more).
        ConflictError: it is being deleted already.
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.DELETE_ORG)
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
        raise ConflictError("This organization is being deleted already.")
    bots = _bots(session, org)
    for bot in bots:
        bot.desired_when_restored, bot.desired_state = bot.desired_state, DesiredState.STOPPED
    data = {"bots": len(bots), "delete_after": (now + GRACE_PERIOD).isoformat()}
    events.record(session, EventTag.ORG_DELETION_REQUESTED, actor=actor, org_id=org.id, data=data)
    _tell_everybody(session, org)
    return bots


def restore(session: Session, org: Org, *, actor: User, now: datetime) -> Sequence[Bot]:
    """Take the deletion back: bots that ran before are to run again.

    Returns:
        The bots that a worker has to look after.

    Raises:
        ForbiddenError: the actor is not the owner.
        ConflictError: the grace is over, or it is not being deleted.
    """
    org = orgs.lock_org(session, org)
    if not can(orgs.list_roles(session, org, actor), Action.DELETE_ORG):
        raise ForbiddenError("Only the owner can restore this organization.")
    return _restore(session, org, actor, now)


def restore_as_operator(session: Session, org: Org, *, actor: User | None, now: datetime) -> Sequence[Bot]:
    """Take the deletion back as an operator, for an owner who cannot; None is the command line.

    Returns:
        The bots that a worker has to look after.

    Raises:
        ConflictError: as `restore`.
    """
    return _restore(session, orgs.lock_org(session, org), actor, now)


def _restore(session: Session, org: Org, actor: User | None, now: datetime) -> Sequence[Bot]:
    if org.delete_after is None or org.delete_after <= now:
        raise ConflictError("It is too late: the time in which this organization could be restored is over.")
    if not move(session, org, OrgState.DELETING, OrgState.ACTIVE, delete_after=None, version=Org.version + 1):
        raise ConflictError("This organization is not being deleted.")
    bots = _bots(session, org)
    for bot in bots:
        if bot.desired_when_restored is not None:
            bot.desired_state, bot.desired_when_restored = bot.desired_when_restored, None
    by = actor.id if actor else None
    events.record(session, EventTag.ORG_RESTORED, actor=by, org_id=org.id, data={"bots": len(bots)})
    return bots


def _bots(session: Session, org: Org) -> Sequence[Bot]:
    query = sa.select(Bot).where(Bot.org_id == org.id).options(defer(Bot.spec), defer(Bot.provision_secret))
    return session.scalars(query.order_by(Bot.id).with_for_update()).all()


def _tell_everybody(session: Session, org: Org) -> None:
    for person in member_list.list_people(session, org):
        outbox.queue_mail(
            session,
            to=person.email,
            template="org_deletion",
            dedupe_key=f"deletion:{org.id}:{org.version}:{person.id}",
            context={"org_id": org.id, "user_id": person.id},
        )
