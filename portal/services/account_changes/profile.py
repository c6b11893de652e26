"""What people change about themselves: their name and their address. Their bots are to know both."""

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


def rename_user(session: Session, user_id: str, name: str) -> None:
    """Call the user otherwise; the name they have changes nothing.

    Raises:
        InvalidError: it is no name.
    """
    name = accounts.require_valid_name(name)
    user = session.get_one(User, user_id)
    if user.name == name:
        return
    _tell_bots(session, user_id)
    facts = {"user_id": user.id, "old": user.name, "new": name}
    user.name = name
    events.record(session, EventTag.USER_RENAMED, actor=user.id, data=facts)


def request_email_change(session: Session, user_id: str, email: str, now: datetime) -> None:
    """Mail a link to the address that a user wants to have; nothing changes before it was followed.

    Whether somebody else has that address is not told here: who can read its mail learns it there.

    Args:
        session: the transaction.
        user_id: the user, whose password was asked for again.
        email: the new address.
        now: the present.

    Raises:
        InvalidError: it is no address.
        ConflictError: it is the address they have.
    """
    email = accounts.require_valid_email(email)
    if session.get_one(User, user_id).email == email:
        raise ConflictError("This is your address already.")
    one_time_tokens.request_link(session, TokenPurpose.CHANGE_EMAIL, email, now, user_id)


def change_email(session: Session, user_id: str, token: str | None, now: datetime) -> str:
    """Use the link up that was mailed to the new address.

    Returns:
        The address the user has from now on.

    Raises:
        NotFoundError: the link does not work (any more), or belongs to somebody else.
        ConflictError: somebody else has that address.
    """
    request = one_time_tokens.find(session, TokenPurpose.CHANGE_EMAIL, token, now)
    if request is None or request.user_id != user_id:
        raise NotFoundError("This link does not work any more, or was mailed for another account.")
    _tell_bots(session, user_id)
    if one_time_tokens.claim(session, TokenPurpose.CHANGE_EMAIL, token, now) is None:
        raise NotFoundError("This link was used already.")
    user = session.get_one(User, user_id)
    old = user.email
    try:
        with session.begin_nested():
            user.email, user.email_normalized = request.email, email_addresses.normalize(request.email)
    except IntegrityError:
        raise ConflictError(f"Another account has the address {request.email}.") from None
    one_time_tokens.invalidate_all_of_user(session, user.id, now)
    facts = {"user_id": user.id, "old": old, "new": user.email}
    event = events.record(session, EventTag.USER_EMAIL_CHANGED, actor=user.id, data=facts)
    key = f"email_changed:{event.id}"
    outbox.queue_mail(session, to=old, template="email_changed", dedupe_key=key, context={"user_id": user.id})
    return user.email


def _tell_bots(session: Session, user_id: str) -> None:
    """Have the bots of every organization of the user told anew, by way of the locks that guard memberships."""
    user = session.get_one(User, user_id)
    for org in memberships.list_orgs(session, user_id):
        locked = orgs.lock_org(session, org)
        row = memberships.find_membership(session, locked, user)
        if row is not None:
            member_sync.set_desired_role(session, locked, user, member_sync.synced_role(locked, row))
