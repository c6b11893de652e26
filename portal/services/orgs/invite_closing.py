"""Revoking pending invites that have lost their reason. Used when members leave, and by deletions and backups.

A revoked invite stays revoked, even when the inviter joins again or the organization is restored.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, Invite, InviteState, Org, User, move
from portal.services import events


def close_invites_of(session: Session, org: Org, user: User, *, actor: User, now: datetime) -> None:
    """Revoke the pending invites to the user's address, and the pending invites that the user sent.

    Args:
        session: a transaction that has locked the organization.
        org: the organization.
        user: the user who leaves it.
        actor: the user who ended the membership.
        now: the current moment.
    """
    concerns_user = (Invite.email_normalized == user.email_normalized) | (Invite.invited_by == user.id)
    close_invites(session, (Invite.org_id == org.id) & concerns_user, "membership ended", actor=actor, now=now)


def close_all_invites(session: Session, org: Org, *, actor: User, now: datetime) -> None:
    """Revoke all pending invites of an organization that is being deleted.

    Args:
        session: a transaction that has locked the organization.
        org: the organization.
        actor: the user who deletes it.
        now: the current moment.
    """
    close_invites(session, Invite.org_id == org.id, "organization deleted", actor=actor, now=now)


def close_invites(
    session: Session, condition: sa.ColumnElement[bool], because: str, *, actor: User | None, now: datetime
) -> int:
    """Revoke the pending invites that meet a condition, with an event for each.

    Args:
        session: the transaction.
        condition: the condition.
        because: why, for the event.
        actor: the user who acted; None for the command line.
        now: the current moment.

    Returns:
        The number of revoked invites.
    """
    revoked = 0
    for invite in session.scalars(sa.select(Invite).where(Invite.state == InviteState.PENDING, condition)).all():
        if move(session, invite, InviteState.PENDING, InviteState.REVOKED, ended_at=now):
            data = {"invite_id": invite.id, "email": invite.email, "because": because}
            events.record(session, EventTag.INVITE_REVOKED, actor=actor, org_id=invite.org_id, data=data)
            revoked += 1
    return revoked
