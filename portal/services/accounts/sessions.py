"""Browsers signed in as a user. The cookie holds 256 random bits, the row only their SHA-256."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, UserSession, update_where
from portal.services import events
from portal.services.events import Actor
from portal.tokens import fingerprint, random_token

IDLE_TIMEOUT = timedelta(hours=12)
"""A session that was not used for so long has ended."""
MAX_AGE = timedelta(days=7)
"""A session ends so long after signing in, however much it is used."""
LAST_SEEN_INTERVAL = timedelta(minutes=5)
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
            expires_at=now + MAX_AGE,
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
    if now >= row.expires_at or now >= row.last_seen_at + IDLE_TIMEOUT:
        return None
    return row


def is_last_seen_stale(row: UserSession, now: datetime) -> bool:
    """Whether `last_seen_at` is old enough to be written again."""
    return now - row.last_seen_at >= LAST_SEEN_INTERVAL


def record_use(session: Session, id_hash: str, now: datetime) -> None:
    """Remember that the session was used."""
    session.execute(sa.update(UserSession).where(UserSession.id_hash == id_hash).values(last_seen_at=now))


def sign_out(session: Session, user_id: str, id_hash: str, now: datetime) -> None:
    """End a user's own session at their wish; ending it twice changes nothing."""
    if _revoke(session, now, UserSession.user_id == user_id, UserSession.id_hash == id_hash):
        events.record(session, EventTag.USER_SIGNED_OUT, actor=user_id)


def end(session: Session, user_id: str, id_hash: str, now: datetime) -> bool:
    """Sign one browser of a user out from another one.

    Returns:
        False when the user has no such browser, or it was signed out before.
    """
    ended = _revoke(session, now, UserSession.user_id == user_id, UserSession.id_hash == id_hash)
    if ended:
        events.record(session, EventTag.SESSION_ENDED, actor=user_id, data={"user_id": user_id, "sessions": ended})
    return bool(ended)


def end_all(session: Session, user_id: str, now: datetime, *, actor: Actor) -> int:
    """Sign a user out everywhere.

    Args:
        session: the transaction.
        user_id: whose sessions end.
        now: the present.
        actor: the user themselves, or an operator; None at the command line.

    Returns:
        How many browsers were signed out.
    """
    ended = end_others(session, user_id, now)
    events.record(session, EventTag.SESSION_ENDED, actor=actor, data={"user_id": user_id, "sessions": ended})
    return ended


def end_others(session: Session, user_id: str, now: datetime, *, keep: str | None = None) -> int:
    """Sign a user out everywhere but in the session whose hash is `keep`; whoever calls tells the log why.

    Returns:
        How many browsers were signed out.
    """
    others = [UserSession.id_hash != keep] if keep else []
    return _revoke(session, now, UserSession.user_id == user_id, *others)


def rotate_token(session: Session, id_hash: str) -> str:
    """Give a session another id, as its user's rights or address change; whoever knows the old one is signed out.

    Returns:
        The token for the cookie.
    """
    token = random_token()
    session.execute(sa.update(UserSession).where(UserSession.id_hash == id_hash).values(id_hash=fingerprint(token)))
    return token


def list_active(session: Session, user_id: str, now: datetime) -> list[UserSession]:
    """The browsers a user is signed in with, the one used last first."""
    statement = sa.select(UserSession).where(UserSession.user_id == user_id, *_lives(now))
    return list(session.scalars(statement.order_by(UserSession.last_seen_at.desc(), UserSession.id_hash)))


def count_active(session: Session, user_ids: Collection[str], now: datetime) -> dict[str, int]:
    """In how many browsers each of these users is signed in; those in none are missing."""
    statement = sa.select(UserSession.user_id, sa.func.count()).where(UserSession.user_id.in_(user_ids), *_lives(now))
    return dict(session.execute(statement.group_by(UserSession.user_id)).all())


def _revoke(session: Session, now: datetime, *which: sa.ColumnElement[bool]) -> int:
    return update_where(session, UserSession, *which, *_lives(now), revoked_at=now)


def _lives(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        UserSession.revoked_at.is_(None),
        UserSession.expires_at > now,
        UserSession.last_seen_at > now - IDLE_TIMEOUT,
    )
