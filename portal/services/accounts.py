"""People's accounts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import User
from portal.services import events
from portal.services.errors import ConflictError, InvalidError

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.?[^@\s]+")
_LONGEST_ADDRESS = 254
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Credentials:
    """What signing in needs to know of an account, copied out so that no transaction stays open meanwhile."""

    user_id: str
    password_hash: str | None = field(repr=False)
    disabled: bool


def normalized(email: str) -> str:
    """The spelling under which addresses are compared: case does not matter."""
    return email.strip().casefold()


def credentials(session: Session, email: str) -> Credentials | None:
    """The credentials of the account with that address; None where there is none."""
    user = session.scalar(sa.select(User).where(User.email_normalized == normalized(email)))
    if user is None:
        return None
    return Credentials(user_id=user.id, password_hash=user.password_hash, disabled=user.disabled_at is not None)


def create_operator(session: Session, email: str, name: str, password_hash: str) -> User:
    """Make an account that runs the platform. Only the command line does this: there is no default account.

    Args:
        session: the transaction.
        email: where the operator is reached; it is also the name to sign in with.
        name: how pages and logs call the operator.
        password_hash: from `portal.passwords.hash_password`, computed before the transaction.

    Raises:
        InvalidError: when address or name make no sense.
        ConflictError: when the address has an account already.
    """
    email, name = email.strip(), name.strip()
    if len(email) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(email):
        raise InvalidError(f"{email!r} is not an email address.", field="email")
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidError(f"A name has 1 to {_LONGEST_NAME} printable characters.", field="name")
    if credentials(session, email):
        raise ConflictError(f"{email} has an account already.")
    user = User(
        email=email,
        email_normalized=normalized(email),
        name=name,
        password_hash=password_hash,
        is_platform_admin=True,
    )
    session.add(user)
    session.flush()
    events.record(session, "user.operator_created", data={"user_id": user.id, "email": email})
    return user
