"""Invites as the invited deal with them: looking, accepting with or without an account, declining.

A mailed link proves that its reader has the address; a copied one does not, and leads through a mail first. Whoever
accepts has proven the invite's address, by signing in to its account or by a mailed link.
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


class ClosedReason(StrEnum):
    """Why an invite cannot be answered (any more)."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    REVOKED = "revoked"
    REPLACED = "replaced"
    EXPIRED = "expired"
    ORG_GONE = "org_gone"
    ORPHANED = "orphaned"
    """The one who invited may not do that any more."""


class InviteClosedError(ConflictError):
    """Too late: the page of the invite tells why."""


class WrongAccountError(ForbiddenError):
    """The invite is for another address than the account's."""


@dataclass(frozen=True)
class Invitation:
    """An invite as the reader of one of its links finds it."""

    invite: Invite
    proven: bool
    """Whether the link came by mail, so that its reader has the invite's address."""
    closed: ClosedReason | None

    @property
    def mark(self) -> str:
        """What a form carries of what its reader saw: which invite, and which version of it."""
        return f"{self.invite.id}-{self.invite.version}"

    @property
    def org(self) -> Org:
        """What the invite is to."""
        return self.invite.org

    def is_for(self, user: User) -> bool:
        """Whether it was the user's address that was invited."""
        return user.email_normalized == self.invite.email_normalized

    def joined_by(self, user: User) -> bool:
        """Whether this user accepted it."""
        return self.closed is ClosedReason.ACCEPTED and self.invite.accepted_by == user.id


def find_invitation(session: Session, token: str | None, now: datetime) -> Invitation | None:
    """The invite behind a link; None where there is none."""
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
    return Invitation(
        invite=row.invite, proven=row.delivery is TokenDelivery.MAILED, closed=_closed(session, row, now)
    )


def has_account(session: Session, found: Invitation) -> bool:
    """Whether the invited address has an account. Only for readers who have proven that it is theirs."""
    return accounts.find_by_email(session, found.invite.email) is not None


def accept_invite(session: Session, token: str | None, user: User, now: datetime, *, seen: str) -> tuple[Org, bool]:
    """Join the organization; accepting twice changes nothing.

    Args:
        session: the transaction.
        token: of the link that was followed.
        user: who accepts.
        now: the present.
        seen: the mark of the invite that the user saw.

    Returns:
        The organization, and whether this call made the difference.

    Raises:
        NotFoundError: the link is unknown.
        WrongAccountError: the invite is for another address.
        ClosedError: it cannot be accepted (any more).
        StaleError: it offers something else than it did when the user looked.
    """
    found = _under_lock(session, token, now)
    user = accounts.lock_active(session, user.id)
    if not found.is_for(user):
        raise WrongAccountError("This invitation is for another address than your account's.")
    if found.joined_by(user) and found.mark == seen:
        return found.org, False
    _require_open(found)
    _require_same(found, seen)
    _join(session, found, user, now)
    return found.org, True


def accept_with_new_account(
    session: Session, token: str | None, name: str, password_hash: str, now: datetime, *, seen: str
) -> tuple[Org, User]:
    """Make the account for the invited address and join with it.

    Args:
        session: the transaction.
        token: of the mailed link that was followed.
        name: of the person.
        password_hash: computed before the transaction.
        now: the present.
        seen: the mark of the invite that the person saw.

    Raises:
        NotFoundError, ClosedError, StaleError: as `accept`.
        ForbiddenError: the link was copied, which proves nothing.
        InvalidError: the name makes no sense.
        ConflictError: the address has an account already.
    """
    found = _under_lock(session, token, now)
    _require_open(found)
    _require_same(found, seen)
    _require_proof(found)
    user = accounts.create(session, found.invite.email, name, password_hash)
    _join(session, found, user, now)
    return found.org, user


def decline_invite(session: Session, token: str | None, user: User | None, now: datetime, *, seen: str) -> None:
    """Turn the invite down, signed in or by a mailed link; a second time changes nothing.

    Args:
        session: the transaction.
        token: of the link that was followed.
        user: who is signed in; None for nobody.
        now: the present.
        seen: the mark of the invite that the reader saw.

    Raises:
        NotFoundError, WrongAccountError, ClosedError, StaleError: as `accept`.
        ForbiddenError: nobody is signed in, and the link was copied.
    """
    found = _under_lock(session, token, now)
    if user is None:
        _require_proof(found)
    elif not found.is_for(user):
        raise WrongAccountError("This invitation is for another address than your account's.")
    if found.closed is ClosedReason.DECLINED:
        return
    _require_open(found)
    _require_same(found, seen)
    move(session, found.invite, InviteState.PENDING, InviteState.DECLINED, ended_at=now)
    _record(session, EventTag.INVITE_DECLINED, found.invite, user)


def mail_proof_link(session: Session, token: str | None, now: datetime) -> None:
    """Mail a link to the invited address, for the reader of a copied one.

    Raises:
        NotFoundError, ClosedError: as `accept`.
    """
    found = _under_lock(session, token, now)
    _require_open(found)
    # The link mailed by the inviter stays good: whoever found a copied one must not be able to take it away.
    row = InviteToken(invite_id=found.invite.id, delivery=TokenDelivery.MAILED, created_at=now)
    session.add(row)
    session.flush()
    context = {"invite_token_id": row.id}
    key = f"invite_proof:{row.id}"
    outbox.queue_mail(session, to=found.invite.email, template="invite_proof", dedupe_key=key, context=context)


def _under_lock(session: Session, token: str | None, now: datetime) -> Invitation:
    """The invite as it is while nobody else can change it, nor the organization or the inviter's right."""
    found = find_invitation(session, token, now)
    if found is not None:
        orgs.lock_org(session, found.org)
        found = find_invitation(session, token, now)
    if found is None:
        raise NotFoundError("This link leads to no invitation.")
    return found


def _closed(session: Session, row: InviteToken, now: datetime) -> ClosedReason | None:
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


def _require_open(found: Invitation) -> None:
    if found.closed is not None:
        raise InviteClosedError("This invitation cannot be answered any more.")


def _require_same(found: Invitation, seen: str) -> None:
    # The browser keeps the link that was followed last, perhaps in another tab.
    if found.mark != seen:
        raise StaleError("This invitation was changed, or another one opened, since you looked. Look again.")


def _require_proof(found: Invitation) -> None:
    if not found.proven:
        raise ForbiddenError("This link was not mailed to you. Have one mailed, or sign in.")


def _join(session: Session, found: Invitation, user: User, now: datetime) -> None:
    invite = found.invite
    if not move(session, invite, InviteState.PENDING, InviteState.ACCEPTED, accepted_by=user.id, ended_at=now):
        raise InviteClosedError("This invitation was answered at the same moment.")
    memberships.add_member(session, found.org, user, invite.role, actor=user)
    session.execute(sa.update(User).where(User.id == user.id).values(last_org_id=invite.org_id))
    _record(session, EventTag.INVITE_ACCEPTED, invite, user)


def _record(session: Session, tag: EventTag, invite: Invite, actor: User | None) -> None:
    data = {"invite_id": invite.id, "email": invite.email, "role": invite.role}
    events.record(session, tag, actor=actor, org_id=invite.org_id, data=data)
