"""Browsers signed in as a user. The cookie holds 256 random bits, the row only their SHA-256."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import CursorResult
from sqlalchemy.orm import Session

from portal.models import UserSession
from portal.tokens import fingerprint, random_token

IDLE = timedelta(hours=12)
"""A session that was not used for so long has ended."""
ABSOLUTE = timedelta(days=7)
"""A session ends so long after signing in, however much it is used."""
SEEN_EVERY = timedelta(minutes=5)
"""`last_seen_at` is written at most so often, so that reading pages hardly ever writes."""


def start(session: Session, user_id: str, *, now: datetime, user_agent: str, ip: str) -> str:
    """Sign a browser in.

    Returns:
        The token for its cookie, which is stored nowhere else.
    """
    token = random_token()
    session.add(
        UserSession(
            id_hash=fingerprint(token),
            user_id=user_id,
            authenticated_at=now,
            last_seen_at=now,
            expires_at=now + ABSOLUTE,
            user_agent=user_agent[:200],
            ip=ip[:45],
        )
    )
    session.flush()
    return token


def find(session: Session, token: str, now: datetime) -> UserSession | None:
    """The living session behind a cookie; None when it ended, was revoked, or its user is disabled."""
    row = session.get(UserSession, fingerprint(token))
    if row is None or row.revoked_at or row.user.disabled_at:
        return None
    if now >= row.expires_at or now >= row.last_seen_at + IDLE:
        return None
    return row


def is_touch_due(row: UserSession, now: datetime) -> bool:
    """Whether `last_seen_at` is old enough to be written again."""
    return now - row.last_seen_at >= SEEN_EVERY


def touch(session: Session, id_hash: str, now: datetime) -> None:
    """Remember that the session was used."""
    session.execute(sa.update(UserSession).where(UserSession.id_hash == id_hash).values(last_seen_at=now))


def end(session: Session, user_id: str, id_hash: str, now: datetime) -> bool:
    """Sign one browser of a user out; ending it twice changes nothing.

    Returns:
        False when the user has no such browser, or it was signed out before.
    """
    statement = sa.update(UserSession).where(
        UserSession.id_hash == id_hash, UserSession.user_id == user_id, UserSession.revoked_at.is_(None)
    )
    return cast("CursorResult[Any]", session.execute(statement.values(revoked_at=now))).rowcount == 1


def renew(session: Session, id_hash: str) -> str:
    """Give a session another id, as its user's rights or address change; whoever knows the old one is signed out.

    Returns:
        The token for the cookie.
    """
    token = random_token()
    session.execute(sa.update(UserSession).where(UserSession.id_hash == id_hash).values(id_hash=fingerprint(token)))
    return token


def living(session: Session, user_id: str, now: datetime) -> list[UserSession]:
    """The browsers a user is signed in with, the one used last first."""
    statement = sa.select(UserSession).where(UserSession.user_id == user_id, *_lives(now))
    return list(session.scalars(statement.order_by(UserSession.last_seen_at.desc(), UserSession.id_hash)))


def end_of_user(session: Session, user_id: str, now: datetime, *, keep: str | None = None) -> int:
    """Sign a user out everywhere.

    Args:
        session: the transaction.
        user_id: who.
        now: the present.
        keep: the hash of a session that goes on, such as the one in which the password was changed.

    Returns:
        How many browsers were signed out.
    """
    statement = sa.update(UserSession).where(UserSession.user_id == user_id, *_lives(now))
    if keep is not None:
        statement = statement.where(UserSession.id_hash != keep)
    return cast("CursorResult[Any]", session.execute(statement.values(revoked_at=now))).rowcount


def _lives(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        UserSession.revoked_at.is_(None),
        UserSession.expires_at > now,
        UserSession.last_seen_at > now - IDLE,
    )
