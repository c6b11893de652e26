"""Changes of a user's name and email, which the user's bots also receive. Used by the account page."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, TokenPurpose, User
from portal.rules import email_addresses
from portal.services import events
from portal.services.accounts import accounts, one_time_tokens
from portal.services.errors import ConflictError, NotFoundError
from portal.services.mail import outbox
from portal.services.orgs import member_sync, memberships, orgs


def rename_user(session: Session, user_id: str, name: str, now: datetime) -> None:
    """Change a user's name. Renaming to the current name changes nothing.

    Args:
        session: the transaction.
        user_id: the user.
        name: the new name.
        now: the current time.

    Raises:
        InvalidError: the name is not valid.
    """
    name = accounts.require_valid_name(name)
    user = session.get_one(User, user_id)
    if user.name == name:
        return
    _sync_to_bots(session, user_id, now)
    facts = {"user_id": user.id, "old": user.name, "new": name}
    user.name = name
    events.record(session, EventTag.USER_RENAMED, actor=user, data=facts)


def request_email_change(session: Session, user_id: str, email: str, now: datetime) -> None:
    """Mail a confirmation link to the new email. The email changes when the user confirms it.

    Only the mailbox owner learns whether another account has this email: this function does not check it.

    Args:
        session: the transaction.
        user_id: the user, whose password was just verified.
        email: the new email.
        now: the current time.

    Raises:
        InvalidError: the email is not valid.
        ConflictError: the user already has this email.
    """
    email = accounts.require_valid_email(email)
    if session.get_one(User, user_id).email == email:
        raise ConflictError("This is already your email.")
    one_time_tokens.request_link(session, TokenPurpose.CHANGE_EMAIL, email, now, user_id)


def change_email(session: Session, user_id: str, token: str | None, now: datetime) -> str:
    """Change a user's email with the token of the link that was mailed to the new email.

    Args:
        session: the transaction.
        user_id: the signed-in user.
        token: the token of the link.
        now: the current time.

    Returns:
        The user's new email.

    Raises:
        NotFoundError: the link is not valid or belongs to another user.
        ConflictError: another account has this email.
    """
    request = one_time_tokens.find(session, TokenPurpose.CHANGE_EMAIL, token, now)
    if request is None or request.user_id != user_id:
        raise NotFoundError("This link has expired or was sent for another account. Change your email again.")
    _sync_to_bots(session, user_id, now)
    if one_time_tokens.claim(session, TokenPurpose.CHANGE_EMAIL, token, now) is None:
        raise NotFoundError("This link was already used.")
    user = session.get_one(User, user_id)
    old = user.email
    try:
        with session.begin_nested():
            user.email, user.email_normalized = request.email, email_addresses.normalize(request.email)
    except IntegrityError:
        raise ConflictError(f"Another account already has the email {request.email}.") from None
    one_time_tokens.invalidate_all_of_user(session, user.id, now)
    facts = {"user_id": user.id, "old": old, "new": user.email}
    event = events.record(session, EventTag.USER_EMAIL_CHANGED, actor=user, data=facts)
    key = f"email_changed:{event.id}"
    outbox.queue_mail(session, to=old, template="email_changed", dedupe_key=key, context={"user_id": user.id})
    return user.email


def _sync_to_bots(session: Session, user_id: str, now: datetime) -> None:
    """Schedule another member sync to every bot of the user's organizations.

    Locks the organizations first, because changes of memberships use the same lock.
    """
    user = session.get_one(User, user_id)
    locked_orgs = [orgs.lock_org(session, org) for org in memberships.list_orgs(session, user_id)]
    member_sync.lock_rows(session, user_id)
    for org in locked_orgs:
        membership = memberships.find_membership(session, org, user)
        if membership is not None:
            member_sync.set_desired_role(session, org, membership, now)
