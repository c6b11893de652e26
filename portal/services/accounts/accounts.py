"""Accounts: create, look up, lock, change the password. Used by sign-up, login, invites and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, TokenPurpose, User
from portal.rules import display_names, email_addresses
from portal.services import events
from portal.services.accounts import one_time_tokens, sessions
from portal.services.errors import ConflictError, InvalidError
from portal.services.mail import outbox


@dataclass(frozen=True)
class Credentials:
    """The password hash of an account, copied so that no transaction stays open while the password is verified."""

    user_id: str
    password_hash: str | None = field(repr=False)


def require_valid_email(email: str) -> str:
    """Return the email without surrounding whitespace.

    Raises:
        InvalidError: the email is not valid.
    """
    email = email.strip()
    if problem := email_addresses.find_problem(email):
        raise InvalidError(problem, field="email")
    return email


def require_valid_name(name: str) -> str:
    """Return the normalized name of a person or an organization.

    Raises:
        InvalidError: the name is not valid.
    """
    name = display_names.normalize(name)
    if problem := display_names.find_problem(name):
        raise InvalidError(problem, field="name")
    return name


def find_credentials(session: Session, email: str) -> Credentials | None:
    """Return the credentials of the account with this email; None when there is no such account."""
    user = find_by_email(session, email)
    if user is None:
        return None
    return Credentials(user_id=user.id, password_hash=user.password_hash)


def are_credentials_current(session: Session, credentials: Credentials) -> bool:
    """Return whether the account is enabled and its password unchanged, and keep it so until the transaction ends.

    Verifying a password takes long enough for another request to change the password or to disable the account.
    Both end all sessions, so a sign-in that started before must fail too.
    """
    user = session.get(User, credentials.user_id, with_for_update={"key_share": True}, populate_existing=True)
    return user is not None and user.disabled_at is None and user.password_hash == credentials.password_hash


def require_current_credentials(session: Session, credentials: Credentials) -> None:
    """Check `are_credentials_current`.

    Raises:
        ConflictError: the password was changed or the account was disabled.
    """
    if not are_credentials_current(session, credentials):
        raise ConflictError("Your account was just changed elsewhere. Sign in again, then try again.")


def find_by_email(session: Session, email: str) -> User | None:
    """Return the account with this email; None when there is no such account."""
    return session.scalar(sa.select(User).where(User.email_normalized == email_addresses.normalize(email)))


def lock_active(session: Session, user_id: str) -> User:
    """Lock an account against deletion until the transaction ends.

    Call this before giving the account an organization or a role.

    Raises:
        ConflictError: the account was deleted.
    """
    user = session.get_one(User, user_id, with_for_update={"key_share": True}, populate_existing=True)
    if user.deleted_at is not None:
        raise ConflictError("This account was deleted.")
    return user


def create_user(session: Session, email: str, name: str, password_hash: str) -> User:
    """Create the account of a person who has confirmed the email.

    Args:
        session: the transaction.
        email: the email in the owner's spelling. The user signs in with it.
        name: the name that pages and logs show.
        password_hash: from `portal.password_hashing.hash_password`, computed before the transaction.

    Raises:
        InvalidError: the email or the name is not valid.
        ConflictError: an account with this email exists.
    """
    user = _insert_user(session, User(email=email, name=name, password_hash=password_hash))
    events.record(session, EventTag.USER_SIGNED_UP, actor=user, data={"user_id": user.id, "email": user.email})
    return user


def create_operator(session: Session, email: str, name: str, password_hash: str) -> User:
    """Create an account with operator rights. Only the command line does this: there is no default account.

    Raises:
        InvalidError, ConflictError: as `create_user`.
    """
    user = _insert_user(session, User(email=email, name=name, password_hash=password_hash, is_platform_admin=True))
    events.record(session, EventTag.USER_OPERATOR_CREATED, data={"user_id": user.id, "email": user.email})
    return user


def set_password(
    session: Session, user_id: str, password_hash: str, now: datetime, *, keep_session: str | None = None
) -> None:
    """Change the password of an account, end its sessions and invalidate its reset links. Notify the user by mail.

    Args:
        session: the transaction.
        user_id: the account.
        password_hash: from `portal.password_hashing.hash_password`, computed before the transaction.
        now: the current time.
        keep_session: the id hash of the session that made the change and continues.
    """
    user = session.get_one(User, user_id)
    user.password_hash = password_hash
    ended = sessions.end_others(session, user.id, now, keep=keep_session)
    one_time_tokens.invalidate(session, TokenPurpose.RESET, user.email, now)
    facts = {"user_id": user.id, "sessions_ended": ended}
    event = events.record(session, EventTag.USER_PASSWORD_CHANGED, actor=user, data=facts)
    key = f"password_changed:{event.id}"
    outbox.queue_mail(
        session, to=user.email, template="password_changed", dedupe_key=key, context={"user_id": user.id}
    )


def _insert_user(session: Session, user: User) -> User:
    user.email, user.name = require_valid_email(user.email), require_valid_name(user.name)
    user.email_normalized = email_addresses.normalize(user.email)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise ConflictError(f"{user.email} already has an account. Sign in with it.") from None
    return user
