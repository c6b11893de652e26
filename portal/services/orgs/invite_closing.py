"""Closing the invites of a user who leaves an organization. Used by `memberships`."""

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
    pending = sa.select(Invite).where(
        Invite.org_id == org.id,
        Invite.state == InviteState.PENDING,
        (Invite.email_normalized == user.email_normalized) | (Invite.invited_by == user.id),
    )
    for invite in session.scalars(pending).all():
        if move(session, invite, InviteState.PENDING, InviteState.REVOKED, ended_at=now):
            data = {"invite_id": invite.id, "email": invite.email, "because": "membership ended"}
            events.record(session, EventTag.INVITE_REVOKED, actor=actor, org_id=org.id, data=data)
