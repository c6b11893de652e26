"""Reminders of invites that are about to expire. Used by an hourly job."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import (
    Invite,
    InviteState,
    InviteToken,
    Org,
    OrgState,
    OutgoingMail,
    TokenDelivery,
)
from portal.services.mail import outbox
from portal.services.orgs import invites

REMIND_BEFORE = timedelta(days=1)
"""How long before its end an invite is mailed once more."""
_AT_ONCE = 500
_KEY = "invite_reminder:"


def queue_reminders(session: Session, now: datetime) -> None:
    """Queue a mail for each invite that expires within `REMIND_BEFORE`, once after each time it was sent.

    Invites that cannot be accepted get none: the inviter lost the right, or the organization is being deleted. Later
    calls queue the rest of a backlog.
    """
    for token in session.scalars(_select_due(now)).all():
        if invites.may_invite(session, token.invite.org, token.invite.inviter):
            outbox.queue_mail(
                session,
                to=token.invite.email,
                template="invite_reminder",
                dedupe_key=_KEY + token.id,
                context={"invite_token_id": token.id},
            )


def _select_due(now: datetime) -> sa.Select[InviteToken]:
    """Select the newest mailed links of the invites that expire soon and have no reminder."""
    has_reminder = sa.exists().where(OutgoingMail.dedupe_key == _KEY + InviteToken.id)
    return (
        sa.select(InviteToken)
        .join(InviteToken.invite)
        .join(Invite.org)
        .options(contains_eager(InviteToken.invite).contains_eager(Invite.org))
        .where(
            Invite.state == InviteState.PENDING,
            Invite.expires_at > now,
            Invite.expires_at <= now + REMIND_BEFORE,
            Org.state == OrgState.ACTIVE,
            InviteToken.delivery == TokenDelivery.MAILED,
            InviteToken.replaced_at.is_(None),
            ~has_reminder,
        )
        .order_by(Invite.expires_at, InviteToken.id)
        .limit(_AT_ONCE)
    )
