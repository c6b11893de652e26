"""Invites as their recipients answer them: open a link, accept with or without an account, decline.

A mailed link proves that its reader has the invited address. A copied link does not; its reader signs in or asks for
a mailed link. So every user who accepts has proven the address, by signing in or by a mailed link.

The membership itself is added by `memberships.add_member`, which never lowers a role.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import EventTag, Invite, InviteState, InviteToken, Org, OrgState, TokenDelivery, User, move
from portal.services import events
from portal.services.accounts import accounts
from portal.services.errors import ConflictError, ForbiddenError, NotFoundError, StaleError
from portal.services.mail import outbox
from portal.services.orgs import invites, memberships, orgs
from portal.tokens import fingerprint

_WRONG_ACCOUNT = "This invitation is for another email address than the one of your account."


class ClosedReason(StrEnum):
    """Why an invite cannot be answered."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    REVOKED = "revoked"
    REPLACED = "replaced"
    EXPIRED = "expired"
    ORG_GONE = "org_gone"
    ORPHANED = "orphaned"
    """The inviter has lost the right to invite."""


class InviteClosedError(ConflictError):
    """The invite cannot be answered. Its page shows the `ClosedReason`."""


class WrongAccountError(ForbiddenError):
    """The invite is for another email address than the account's."""


@dataclass(frozen=True)
class OpenedInvite:
    """An invite as the reader of one of its links sees it.

    Attributes:
        invite: the invite.
        proven: whether the link was mailed, which proves that its reader has the invited address.
        closed: why the invite cannot be answered; None while it can.
    """

    invite: Invite
    proven: bool
    closed: ClosedReason | None

    @property
    def revision(self) -> str:
        """The id and version of the invite. Forms carry this to show which state of the invite their reader saw."""
        return f"{self.invite.id}-{self.invite.version}"

    @property
    def org(self) -> Org:
        """The organization that the invite is to."""
        return self.invite.org

    def is_for(self, user: User) -> bool:
        """Whether the invite is for the user's email address."""
        return user.email_normalized == self.invite.email_normalized

    def was_accepted_by(self, user: User) -> bool:
        """Whether this user accepted the invite."""
        return self.closed is ClosedReason.ACCEPTED and self.invite.accepted_by == user.id


def find_by_token(session: Session, token: str | None, now: datetime) -> OpenedInvite | None:
    """Return the invite of a link, or None for an unknown or missing token."""
    if token is None:
        return None
    statement = (
        sa.select(InviteToken)
        .where(InviteToken.token_hash == fingerprint(token))
        .options(joinedload(InviteToken.invite).options(joinedload(Invite.org), joinedload(Invite.inviter)))
        .execution_options(populate_existing=True)
    )
    row = session.scalar(statement)
    if row is None:
        return None
    closed = _find_closed_reason(session, row, now)
    return OpenedInvite(invite=row.invite, proven=row.delivery is TokenDelivery.MAILED, closed=closed)


def has_account(session: Session, opened: OpenedInvite) -> bool:
    """Whether the invited address has an account. Show this only to readers who have proven the address."""
    return accounts.find_by_email(session, opened.invite.email) is not None


def accept_invite(session: Session, token: str | None, *, seen: str, actor: User, now: datetime) -> tuple[Org, bool]:
    """Join the organization. Accepting twice changes nothing.

    Args:
        session: the transaction.
        token: the token of the link.
        seen: the revision of the invite that the user saw.
        actor: the user who accepts.
        now: the current moment.

    Returns:
        The organization, and whether this call made the user a member.

    Raises:
        NotFoundError: the token is unknown.
        WrongAccountError: the invite is for another email address.
        InviteClosedError: the invite cannot be accepted.
        StaleError: the invite was changed since the user saw it.
    """
    opened = _find_under_lock(session, token, now)
    user = accounts.lock_active(session, actor.id)
    if not opened.is_for(user):
        raise WrongAccountError(_WRONG_ACCOUNT)
    if opened.was_accepted_by(user) and opened.revision == seen:
        return opened.org, False
    _require_open(opened)
    _require_current_revision(opened, seen)
    _join(session, opened, user, now)
    return opened.org, True


def accept_with_new_account(
    session: Session, token: str | None, name: str, password_hash: str, *, seen: str, now: datetime
) -> tuple[Org, User]:
    """Create the account of the invited address and join the organization with it.

    Args:
        session: the transaction.
        token: the token of the mailed link.
        name: the name of the new user.
        password_hash: the hash, computed before the transaction.
        seen: the revision of the invite that the reader saw.
        now: the current moment.

    Raises:
        NotFoundError, InviteClosedError, StaleError: see `accept_invite`.
        ForbiddenError: the link was copied, so it does not prove the address.
        InvalidError: the name is not valid.
        ConflictError: the address has an account.
    """
    opened = _find_under_lock(session, token, now)
    _require_open(opened)
    _require_current_revision(opened, seen)
    _require_proof(opened)
    user = accounts.create_user(session, opened.invite.email, name, password_hash)
    _join(session, opened, user, now)
    return opened.org, user


def decline_invite(session: Session, token: str | None, *, seen: str, actor: User | None, now: datetime) -> None:
    """Decline the invite, signed in or with a mailed link. Declining twice changes nothing.

    Args:
        session: the transaction.
        token: the token of the link.
        seen: the revision of the invite that the reader saw.
        actor: the signed-in user, or None.
        now: the current moment.

    Raises:
        NotFoundError, WrongAccountError, InviteClosedError, StaleError: see `accept_invite`.
        ForbiddenError: the reader is not signed in, and the link was copied.
    """
    opened = _find_under_lock(session, token, now)
    if actor is None:
        _require_proof(opened)
    elif not opened.is_for(actor):
        raise WrongAccountError(_WRONG_ACCOUNT)
    if opened.closed is ClosedReason.DECLINED:
        return
    _require_open(opened)
    _require_current_revision(opened, seen)
    move(session, opened.invite, InviteState.PENDING, InviteState.DECLINED, ended_at=now)
    _record(session, EventTag.INVITE_DECLINED, opened.invite, actor=actor)


def mail_proof_link(session: Session, token: str | None, now: datetime) -> None:
    """Mail a link to the invited address, for the reader of a copied link.

    Raises:
        NotFoundError, InviteClosedError: see `accept_invite`.
    """
    opened = _find_under_lock(session, token, now)
    _require_open(opened)
    # The links mailed before stay valid: the reader of a copied link must not be able to invalidate them.
    row = InviteToken(invite_id=opened.invite.id, delivery=TokenDelivery.MAILED, created_at=now)
    session.add(row)
    session.flush()
    context = {"invite_token_id": row.id}
    key = f"invite_proof:{row.id}"
    outbox.queue_mail(session, to=opened.invite.email, template="invite_proof", dedupe_key=key, context=context)


def _find_under_lock(session: Session, token: str | None, now: datetime) -> OpenedInvite:
    """Lock the organization, then read the invite and the inviter's right as they are under the lock."""
    opened = find_by_token(session, token, now)
    if opened is not None:
        orgs.lock_org(session, opened.org)
        opened = find_by_token(session, token, now)
    if opened is None:
        raise NotFoundError("Invitation not found. The link is wrong or incomplete.")
    return opened


def _find_closed_reason(session: Session, row: InviteToken, now: datetime) -> ClosedReason | None:
    invite = row.invite
    if invite.state is not InviteState.PENDING:
        return ClosedReason(invite.state)
    if row.replaced_at is not None:
        return ClosedReason.REPLACED
    if invite.expires_at <= now:
        return ClosedReason.EXPIRED
    if invite.org.state is not OrgState.ACTIVE:
        return ClosedReason.ORG_GONE
    return None if invites.may_invite(session, invite.org, invite.inviter) else ClosedReason.ORPHANED


def _require_open(opened: OpenedInvite) -> None:
    if opened.closed is not None:
        raise InviteClosedError("This invitation can no longer be answered.")


def _require_current_revision(opened: OpenedInvite, seen: str) -> None:
    # The browser keeps the link that was opened last, which may be the link of another tab.
    if opened.revision != seen:
        raise StaleError("This invitation was changed, or you opened another one. Check it, then answer again.")


def _require_proof(opened: OpenedInvite) -> None:
    if not opened.proven:
        raise ForbiddenError("This link was not mailed to you. Ask for a link by email, or sign in.")


def _join(session: Session, opened: OpenedInvite, user: User, now: datetime) -> None:
    invite = opened.invite
    if not move(session, invite, InviteState.PENDING, InviteState.ACCEPTED, accepted_by=user.id, ended_at=now):
        raise InviteClosedError("This invitation was answered at the same moment.")
    memberships.add_member(session, opened.org, user, invite.role, actor=user, now=now)
    session.execute(sa.update(User).where(User.id == user.id).values(last_org_id=invite.org_id))
    _record(session, EventTag.INVITE_ACCEPTED, invite, actor=user)


def _record(session: Session, tag: EventTag, invite: Invite, *, actor: User | None) -> None:
    data = {"invite_id": invite.id, "email": invite.email, "role": invite.role}
    events.record(session, tag, actor=actor, org_id=invite.org_id, data=data)
