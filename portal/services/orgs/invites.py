"""Invites as an organization manages them: send, send again, copy a link, revoke, list. Used by the team page.

An organization has one pending invite per email address. Sending it again mails a new link that replaces the links
mailed before. A copied link stays valid beside them until the invite ends.
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
from portal.tokens import fingerprint, generate_token

INVITE_LIFETIME = timedelta(days=7)
"""How long an invite can be accepted after it was last mailed."""

_IS_PENDING = Invite.state == InviteState.PENDING


@dataclass(frozen=True)
class PendingInvite:
    """One row of the list of pending invites.

    Attributes:
        invite: the invite.
        mail: its newest mail; None before there is one.
        expired: whether the invite has expired.
        orphaned: whether the inviter has lost the right to invite, so that the invite cannot be accepted.
    """

    invite: Invite
    mail: OutgoingMail | None
    expired: bool
    orphaned: bool

    @property
    def is_sending(self) -> bool:
        """Whether the result of the mail's first attempt is not known yet."""
        if self.mail is None:
            return False
        is_queued = self.mail.state is MailState.PENDING and self.mail.attempts == 0
        return is_queued or self.mail.state is MailState.SENDING


def send_invite(
    session: Session, org: Org, email: str, role: MembershipRole, *, actor: User, now: datetime
) -> Invite:
    """Invite an email address. A pending invite is mailed again, with the new role and inviter.

    Args:
        session: the transaction.
        org: the organization to join.
        email: the address as it was typed.
        role: the role to offer.
        actor: an owner or admin, who is named as the inviter.
        now: the current moment.

    Raises:
        InvalidError: the address is not valid, or belongs to a member.
        ForbiddenError: the actor has no right to invite.
        ConflictError: the organization is being deleted.
    """
    org = orgs.lock_org_for_action(session, org, Action.MANAGE_TEAM, actor=actor)
    email = accounts.require_valid_email(email)
    normalized = email_addresses.normalize(email)
    invite = session.scalar(_select_invites(org).where(Invite.email_normalized == normalized, _IS_PENDING))
    tag = EventTag.INVITE_RESENT
    if invite is None:
        tag = EventTag.INVITE_SENT
        invite = Invite(org=org, email_normalized=normalized, version=0)
    invite.email, invite.role = email, role
    _renew_and_mail(session, invite, tag, actor=actor, now=now)
    return invite


def resend_invite(session: Session, org: Org, invite_id: str, *, actor: User, now: datetime) -> Invite:
    """Mail a pending invite again, with the actor as the inviter and a new lifetime.

    Raises:
        NotFoundError: the organization has no such invite.
        ConflictError: the invite is not pending, or the organization is being deleted.
        InvalidError: the address belongs to a member.
        ForbiddenError: the actor has no right to invite.
    """
    org = orgs.lock_org_for_action(session, org, Action.MANAGE_TEAM, actor=actor)
    invite = _get_pending_invite(session, org, invite_id)
    _renew_and_mail(session, invite, EventTag.INVITE_RESENT, actor=actor, now=now)
    return invite


def revoke_invite(session: Session, org: Org, invite_id: str, *, actor: User, now: datetime) -> Invite:
    """Revoke an invite. Revoking it twice changes nothing.

    Raises:
        NotFoundError: the organization has no such invite.
        ConflictError: the invite was accepted or declined, or the organization is being deleted.
        ForbiddenError: the actor has no right to revoke invites.
    """
    org = orgs.lock_org_for_action(session, org, Action.MANAGE_TEAM, actor=actor)
    invite = _get_invite(session, org, invite_id)
    if invite.state is InviteState.REVOKED:
        return invite
    if invite.state is not InviteState.PENDING:
        raise ConflictError(f"{invite.email} has already {invite.state} this invite.")
    move(session, invite, InviteState.PENDING, InviteState.REVOKED, ended_at=now)
    _record(session, EventTag.INVITE_REVOKED, invite, actor=actor)
    return invite


def copy_link(session: Session, org: Org, invite_id: str, *, actor: User, now: datetime) -> tuple[Invite, str]:
    """Create a link that the actor can pass on. The link does not prove that its reader has the invited address.

    Returns:
        The invite, and the token of the link. The database stores only the token's hash.

    Raises:
        NotFoundError: the organization has no such invite.
        ConflictError: the invite cannot be accepted, or the organization is being deleted.
        ForbiddenError: the actor has no right to invite.
    """
    org = orgs.lock_org_for_action(session, org, Action.MANAGE_TEAM, actor=actor)
    invite = _get_pending_invite(session, org, invite_id)
    if invite.expires_at <= now or not may_invite(session, org, invite.inviter):
        raise ConflictError("This invite can't be accepted in its current state. Send it again, then copy the link.")
    token = generate_token()
    session.add(InviteToken(invite_id=invite.id, delivery=TokenDelivery.COPIED, token_hash=fingerprint(token)))
    _record(session, EventTag.INVITE_COPIED, invite, actor=actor)
    return invite, token


def list_pending(session: Session, org: Org, now: datetime) -> list[PendingInvite]:
    """List the pending invites, including expired ones, the newest first."""
    query = _select_invites(org).where(_IS_PENDING).options(joinedload(Invite.inviter))
    found = session.scalars(query.order_by(Invite.created_at.desc(), Invite.id)).all()
    mails = _load_newest_mails(session, found)
    # Checked once per inviter: a few people send many invites, and the list polls.
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
    """Return the email address of an invite.

    Raises:
        NotFoundError: the organization has no such invite.
    """
    return _get_invite(session, org, invite_id).email


def may_invite(session: Session, org: Org, user: User) -> bool:
    """Whether the user has the right to invite. An invite is valid only while its inviter has this right."""
    return user.disabled_at is None and can(orgs.list_roles(session, org, user), Action.MANAGE_TEAM)


def mail_dedupe_key(token: InviteToken) -> str:
    """Return the outbox key of the mail that carries a link."""
    return f"invite:{token.id}"


def _select_invites(org: Org) -> sa.Select[Invite]:
    return sa.select(Invite).where(Invite.org_id == org.id).execution_options(populate_existing=True)


def _get_invite(session: Session, org: Org, invite_id: str) -> Invite:
    invite = session.scalar(_select_invites(org).where(Invite.id == invite_id))
    if invite is None:
        raise NotFoundError("This organization has no such invite.")
    return invite


def _get_pending_invite(session: Session, org: Org, invite_id: str) -> Invite:
    invite = _get_invite(session, org, invite_id)
    if invite.state is not InviteState.PENDING:
        raise ConflictError(f"This invite was {invite.state}.")
    return invite


def _renew_and_mail(session: Session, invite: Invite, tag: EventTag, *, actor: User, now: datetime) -> None:
    """Renew the lifetime of an invite and mail it with a new link that replaces the links mailed before."""
    _refuse_members(session, invite.org, invite.email)
    invite.invited_by, invite.expires_at = actor.id, now + INVITE_LIFETIME
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
    _record(session, tag, invite, actor=actor)


def _refuse_members(session: Session, org: Org, email: str) -> None:
    user = accounts.find_by_email(session, email)
    row = memberships.find_membership(session, org, user) if user else None
    if row is not None and row.state is MembershipState.ACTIVE:
        raise InvalidError(f"{email} is already in {org.name}.", "email")


def _load_newest_mails(session: Session, found: Sequence[Invite]) -> dict[str, OutgoingMail]:
    """Load the newest mail of each invite, by the id of the invite."""
    tokens = session.scalars(
        sa.select(InviteToken)
        .where(InviteToken.invite_id.in_([invite.id for invite in found]), InviteToken.replaced_at.is_(None))
        .order_by(InviteToken.created_at)
    ).all()
    mails = outbox.find_by_dedupe_key(session, [mail_dedupe_key(token) for token in tokens])
    return {token.invite_id: mails[mail_dedupe_key(token)] for token in tokens if mail_dedupe_key(token) in mails}


def _record(session: Session, tag: EventTag, invite: Invite, *, actor: User) -> None:
    data = {"invite_id": invite.id, "email": invite.email, "role": invite.role}
    events.record(session, tag, actor=actor, org_id=invite.org_id, data=data)
