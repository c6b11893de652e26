"""People's accounts: making them, looking up what signing in needs, passwords."""

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
    """What signing in needs to know of an account, copied out so that no transaction stays open meanwhile."""

    user_id: str
    password_hash: str | None = field(repr=False)


def require_valid_email(email: str) -> str:
    """An address that mail could be sent to, without the blanks around it.

    Raises:
        InvalidError: it is none.
    """
    email = email.strip()
    if problem := email_addresses.find_problem(email):
        raise InvalidError(problem, field="email")
    return email


def require_valid_name(name: str) -> str:
    """The name of a person or an organization as one line that can be seen, without the blanks around it.

    Raises:
        InvalidError: it is none.
    """
    name = display_names.clean(name)
    if problem := display_names.find_problem(name):
        raise InvalidError(problem, field="name")
    return name


def find_credentials(session: Session, email: str) -> Credentials | None:
    """The credentials of the account with that address; None where there is none."""
    user = find_by_email(session, email)
    if user is None:
        return None
    return Credentials(user_id=user.id, password_hash=user.password_hash)


def are_credentials_current(session: Session, found: Credentials) -> bool:
    """Whether one may sign in with credentials that were looked up before, now and until the transaction ends.

    Comparing a password takes long enough for it to be changed meanwhile, or for the account to be disabled; either
    is to sign everybody out, also those who are just signing in.
    """
    user = session.get(User, found.user_id, with_for_update={"key_share": True}, populate_existing=True)
    return user is not None and user.disabled_at is None and user.password_hash == found.password_hash


def require_current_credentials(session: Session, found: Credentials) -> None:
    """Do nothing while `still_hold` says yes.

    Raises:
        ConflictError: it says no.
    """
    if not are_credentials_current(session, found):
        raise ConflictError("Your account was changed somewhere else at this moment. Sign in again, then try again.")


def find_by_email(session: Session, email: str) -> User | None:
    """The account with that address."""
    return session.scalar(sa.select(User).where(User.email_normalized == email_addresses.normalize(email)))


def lock_active(session: Session, user_id: str) -> User:
    """Keep an account from being deleted until the transaction ends, before it is given an organization or a role.

    Raises:
        ConflictError: it was deleted.
    """
    user = session.get_one(User, user_id, with_for_update={"key_share": True}, populate_existing=True)
    if user.deleted_at is not None:
        raise ConflictError("This account was deleted.")
    return user


def create(session: Session, email: str, name: str, password_hash: str) -> User:
    """Make an account for somebody who has proven the address.

    Args:
        session: the transaction.
        email: the address, as its owner writes it; it is also the name to sign in with.
        name: how pages and logs call the person.
        password_hash: from `portal.password_hashing.hash_password`, computed before the transaction.

    Raises:
        InvalidError: when address or name make no sense.
        ConflictError: when the address has an account already.
    """
    user = _add(session, User(email=email, name=name, password_hash=password_hash))
    events.record(session, EventTag.USER_SIGNED_UP, actor=user.id, data={"user_id": user.id, "email": user.email})
    return user


def create_operator(session: Session, email: str, name: str, password_hash: str) -> User:
    """Make an account that runs the platform. Only the command line does this: there is no default account.

    Raises:
        InvalidError, ConflictError: as `create`.
    """
    user = _add(session, User(email=email, name=name, password_hash=password_hash, is_platform_admin=True))
    events.record(session, EventTag.USER_OPERATOR_CREATED, data={"user_id": user.id, "email": user.email})
    return user


def set_password(
    session: Session, user_id: str, password_hash: str, now: datetime, *, keep_session: str | None = None
) -> None:
    """Give an account another password: sessions end, mailed reset links die, and its owner is told by mail.

    Args:
        session: the transaction.
        user_id: whose password it is.
        password_hash: from `portal.password_hashing.hash_password`, computed before the transaction.
        now: the present.
        keep_session: the hash of the session that goes on: the one it was changed in.
    """
    user = session.get_one(User, user_id)
    user.password_hash = password_hash
    ended = sessions.end_others(session, user.id, now, keep=keep_session)
    one_time_tokens.invalidate(session, TokenPurpose.RESET, user.email, now)
    facts = {"user_id": user.id, "sessions_ended": ended}
    event = events.record(session, EventTag.USER_PASSWORD_CHANGED, actor=user.id, data=facts)
    key = f"password_changed:{event.id}"
    outbox.queue_mail(
        session, to=user.email, template="password_changed", dedupe_key=key, context={"user_id": user.id}
    )


def _add(session: Session, user: User) -> User:
    user.email, user.name = require_valid_email(user.email), require_valid_name(user.name)
    user.email_normalized = email_addresses.normalize(user.email)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise ConflictError(f"{user.email} has an account already. Sign in with it.") from None
    return user
