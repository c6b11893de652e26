"""Invites as the people of an organization deal with them: sending, sending again, copying a link, taking back.

An organization has one pending invite per address. Mailing again adds a newer link and the older mailed ones say that
they were replaced; a copied link stands beside them and dies with the invite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import (
    EventTag,
    Invite,
    InviteState,
    InviteToken,
    MailState,
    MembershipRole,
    MembershipState,
    Org,
    OutgoingMail,
    TokenDelivery,
    User,
    move,
)
from portal.policy import Action, can
from portal.rules import email_addresses
from portal.services import events
from portal.services.accounts import accounts
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.mail import outbox
from portal.services.orgs import memberships, orgs
from portal.tokens import fingerprint, random_token

LIFETIME = timedelta(days=7)
"""So long after it was mailed last an invite can be accepted."""


@dataclass(frozen=True)
class PendingInvite:
    """One line of the list of pending invites."""

    invite: Invite
    mail: OutgoingMail | None
    """The newest one; None before one was written."""
    expired: bool
    orphaned: bool
    """Whether the one who invited may not do that any more, so that nobody can accept."""

    @property
    def in_flight(self) -> bool:
        """Whether a worker is about to tell what came of the mail."""
        if self.mail is None:
            return False
        waits = self.mail.state is MailState.PENDING and self.mail.attempts == 0
        return waits or self.mail.state is MailState.SENDING


def send_invite(
    session: Session, org: Org, email: str, role: MembershipRole, *, actor: User, now: datetime
) -> Invite:
    """Invite an address, or mail a pending invite again, with the role and inviter of now.

    Args:
        session: the transaction.
        org: what the address is to join.
        email: as it was typed.
        role: `admin` or `member`.
        actor: an owner or admin, named as the inviter.
        now: the present.

    Raises:
        InvalidError: it is no address, or belongs to a member already.
        ForbiddenError: the actor may not invite (any more).
        ConflictError: the organization is being deleted.
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.MANAGE_TEAM)
    email = accounts.require_valid_email(email)
    normalized = email_addresses.normalize(email)
    invite = session.scalar(_invites(org).where(Invite.email_normalized == normalized, _IS_PENDING))
    tag = EventTag.INVITE_RESENT
    if invite is None:
        tag = EventTag.INVITE_SENT
        invite = Invite(org=org, email_normalized=normalized, version=0)
    invite.email, invite.role = email, role
    _offer(session, invite, tag, actor, now)
    return invite


def resend_invite(session: Session, org: Org, invite_id: str, *, actor: User, now: datetime) -> Invite:
    """Mail a pending invite again, in the actor's name and for another seven days.

    Raises:
        NotFoundError: there is no such invite.
        ConflictError: it is not pending any more, or the organization is being deleted.
        InvalidError: the address belongs to a member meanwhile.
        ForbiddenError: the actor may not invite (any more).
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.MANAGE_TEAM)
    invite = _pending(session, org, invite_id)
    _offer(session, invite, EventTag.INVITE_RESENT, actor, now)
    return invite


def revoke_invite(session: Session, org: Org, invite_id: str, *, actor: User, now: datetime) -> Invite:
    """Take an invite back; a second time changes nothing.

    Raises:
        NotFoundError: there is no such invite.
        ConflictError: it was accepted or declined already, or the organization is being deleted.
        ForbiddenError: the actor may not do that (any more).
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.MANAGE_TEAM)
    invite = _known(session, org, invite_id)
    if invite.state is InviteState.REVOKED:
        return invite
    if invite.state is not InviteState.PENDING:
        raise ConflictError(f"{invite.email} has {invite.state} this invite already.")
    move(session, invite, InviteState.PENDING, InviteState.REVOKED, ended_at=now)
    _record(session, EventTag.INVITE_REVOKED, invite, actor)
    return invite


def copy_link(session: Session, org: Org, invite_id: str, *, actor: User, now: datetime) -> tuple[Invite, str]:
    """Make a link to hand over by other means. It proves nothing: its reader signs in, or has a link mailed.

    Returns:
        The invite, and the token of the link, which is stored nowhere.

    Raises:
        NotFoundError: there is no such invite.
        ConflictError: it cannot be accepted any more, or the organization is being deleted.
        ForbiddenError: the actor may not invite (any more).
    """
    org = orgs.lock_org_for_action(session, org, actor, Action.MANAGE_TEAM)
    invite = _pending(session, org, invite_id)
    if invite.expires_at <= now or not may_invite(session, org, invite.inviter):
        raise ConflictError("Nobody could accept this invite as it is. Send it again, then copy the link.")
    token = random_token()
    session.add(InviteToken(invite_id=invite.id, delivery=TokenDelivery.COPIED, token_hash=fingerprint(token)))
    _record(session, EventTag.INVITE_COPIED, invite, actor)
    return invite, token


def list_pending(session: Session, org: Org, now: datetime) -> list[PendingInvite]:
    """The invites nobody answered yet, expired ones among them, the newest first."""
    query = _invites(org).where(_IS_PENDING).options(joinedload(Invite.inviter))
    found = session.scalars(query.order_by(Invite.created_at.desc(), Invite.id)).all()
    mails = _newest_mails(session, found)
    # Asked once for each who invited: few people invite many, and the list polls.
    inviters = {invite.inviter for invite in found}
    entitled = {inviter for inviter in inviters if may_invite(session, org, inviter)}
    return [
        PendingInvite(
            invite=invite,
            mail=mails.get(invite.id),
            expired=invite.expires_at <= now,
            orphaned=invite.inviter not in entitled,
        )
        for invite in found
    ]


def get_invited_email(session: Session, org: Org, invite_id: str) -> str:
    """Whom an invite of the organization is for.

    Raises:
        NotFoundError: there is no such invite.
    """
    return _known(session, org, invite_id).email


def may_invite(session: Session, org: Org, person: User) -> bool:
    """Whether somebody may invite (still); an invite is worth as much as its inviter's right."""
    return person.disabled_at is None and can(orgs.list_roles(session, org, person), Action.MANAGE_TEAM)


def mail_dedupe_key(token: InviteToken) -> str:
    """Under which the outbox knows the mail with this link."""
    return f"invite:{token.id}"


_IS_PENDING = Invite.state == InviteState.PENDING


def _invites(org: Org) -> sa.Select[Invite]:
    return sa.select(Invite).where(Invite.org_id == org.id).execution_options(populate_existing=True)


def _known(session: Session, org: Org, invite_id: str) -> Invite:
    invite = session.scalar(_invites(org).where(Invite.id == invite_id))
    if invite is None:
        raise NotFoundError("There is no such invite in this organization.")
    return invite


def _pending(session: Session, org: Org, invite_id: str) -> Invite:
    invite = _known(session, org, invite_id)
    if invite.state is not InviteState.PENDING:
        raise ConflictError(f"This invite was {invite.state} meanwhile.")
    return invite


def _offer(session: Session, invite: Invite, tag: EventTag, actor: User, now: datetime) -> None:
    """Renew an invite and have it mailed, with a link that replaces the mailed ones before it."""
    _refuse_members(session, invite.org, invite.email)
    invite.invited_by, invite.expires_at = actor.id, now + LIFETIME
    invite.version += 1
    session.add(invite)
    session.flush()
    older = sa.update(InviteToken).where(
        InviteToken.invite_id == invite.id,
        InviteToken.delivery == TokenDelivery.MAILED,
        InviteToken.replaced_at.is_(None),
    )
    session.execute(older.values(replaced_at=now))
    token = InviteToken(invite_id=invite.id, delivery=TokenDelivery.MAILED, created_at=now)
    session.add(token)
    session.flush()
    context = {"invite_token_id": token.id}
    outbox.queue_mail(session, to=invite.email, template="invite", dedupe_key=mail_dedupe_key(token), context=context)
    _record(session, tag, invite, actor)


def _refuse_members(session: Session, org: Org, email: str) -> None:
    user = accounts.find_by_email(session, email)
    row = memberships.find_membership(session, org, user) if user else None
    if row is not None and row.state is MembershipState.ACTIVE:
        raise InvalidError(f"{email} belongs to {org.name} already.", "email")


def _newest_mails(session: Session, found: Sequence[Invite]) -> dict[str, OutgoingMail]:
    tokens = session.scalars(
        sa.select(InviteToken)
        .where(InviteToken.invite_id.in_([invite.id for invite in found]), InviteToken.replaced_at.is_(None))
        .order_by(InviteToken.created_at)
    ).all()
    mails = outbox.find_by_dedupe_key(session, [mail_dedupe_key(token) for token in tokens])
    return {token.invite_id: mails[mail_dedupe_key(token)] for token in tokens if mail_dedupe_key(token) in mails}


def _record(session: Session, tag: EventTag, invite: Invite, actor: User) -> None:
    data = {"invite_id": invite.id, "email": invite.email, "role": invite.role}
    events.record(session, tag, actor=actor, org_id=invite.org_id, data=data)
