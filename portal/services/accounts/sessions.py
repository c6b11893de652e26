"""Sessions of signed-in browsers: start, find, end, list. Used by the session cookie and by account pages.

The cookie holds a token of 256 random bits. The database holds only its SHA-256.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import EventTag, UserSession, update_where
from portal.services import events
from portal.services.events import Actor
from portal.tokens import fingerprint, generate_token

IDLE_TIMEOUT = timedelta(hours=12)
"""A session ends when it has not been used for this long."""
MAX_AGE = timedelta(days=7)
"""A session ends this long after sign-in, even when it is in use."""
LAST_SEEN_INTERVAL = timedelta(minutes=5)
"""`last_seen_at` is written at most once per interval, so that most page views write nothing."""

# Every request loads its session and user, so both come with one statement, which is built once.
_WITH_USER = (
    sa.select(UserSession).options(joinedload(UserSession.user)).where(UserSession.id_hash == sa.bindparam("id_hash"))
)


def start(session: Session, user_id: str, *, now: datetime, user_agent: str, ip: str) -> str:
    """Start a session.

    Args:
        session: the transaction.
        user_id: the user who signs in.
        now: the current time.
        user_agent: the browser's `User-Agent` header.
        ip: the browser's network address.

    Returns:
        The token for the cookie. It is stored nowhere else.
    """
    token = generate_token()
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
    """Return the active session of a cookie; None when it ended, was revoked, or its user is disabled."""
    return find_by_hash(session, fingerprint(token), now)


def find_by_hash(session: Session, id_hash: str, now: datetime) -> UserSession | None:
    """Return the active session with this hash of its token; see `find`."""
    row = session.scalar(_WITH_USER, {"id_hash": id_hash})
    if row is None or row.revoked_at or row.user.disabled_at:
        return None
    if now >= row.expires_at or now >= row.last_seen_at + IDLE_TIMEOUT:
        return None
    return row


def is_last_seen_stale(row: UserSession, now: datetime) -> bool:
    """Return whether `last_seen_at` is due to be written again."""
    return now - row.last_seen_at >= LAST_SEEN_INTERVAL


def record_use(session: Session, id_hash: str, now: datetime) -> None:
    """Set `last_seen_at` of a session."""
    session.execute(sa.update(UserSession).where(UserSession.id_hash == id_hash).values(last_seen_at=now))


def sign_out(session: Session, user_id: str, id_hash: str, now: datetime) -> None:
    """End a session because its user signs out. Ending it twice changes nothing."""
    if _revoke(session, now, UserSession.user_id == user_id, UserSession.id_hash == id_hash):
        events.record(session, EventTag.USER_SIGNED_OUT, actor=user_id)


def end(session: Session, user_id: str, id_hash: str, now: datetime) -> bool:
    """End one session of a user from another session of the same user.

    Returns:
        False when the user has no such active session.
    """
    ended = _revoke(session, now, UserSession.user_id == user_id, UserSession.id_hash == id_hash)
    if ended:
        events.record(session, EventTag.SESSION_ENDED, actor=user_id, data={"user_id": user_id, "sessions": ended})
    return bool(ended)


def end_all(session: Session, user_id: str, now: datetime, *, actor: Actor) -> int:
    """End all sessions of a user and record an event.

    Args:
        session: the transaction.
        user_id: the user.
        now: the current time.
        actor: this user or an operator; None at the command line.

    Returns:
        The number of sessions that ended.
    """
    ended = end_others(session, user_id, now)
    events.record(session, EventTag.SESSION_ENDED, actor=actor, data={"user_id": user_id, "sessions": ended})
    return ended


def end_others(session: Session, user_id: str, now: datetime, *, keep: str | None = None) -> int:
    """End all sessions of a user except the one with the id hash `keep`. The caller records the event.

    Returns:
        The number of sessions that ended.
    """
    others = [UserSession.id_hash != keep] if keep else []
    return _revoke(session, now, UserSession.user_id == user_id, *others)


def end_all_of_all_users(session: Session, now: datetime) -> int:
    """End all sessions of all users and return their number. The caller records the event."""
    return _revoke(session, now)


def rotate_token(session: Session, id_hash: str) -> str:
    """Replace the token of a session when its user's rights or email change. The old token becomes invalid.

    Returns:
        The new token for the cookie.
    """
    token = generate_token()
    session.execute(sa.update(UserSession).where(UserSession.id_hash == id_hash).values(id_hash=fingerprint(token)))
    return token


def list_active(session: Session, user_id: str, now: datetime) -> list[UserSession]:
    """Return the active sessions of a user, the most recently used first."""
    statement = sa.select(UserSession).where(UserSession.user_id == user_id, *is_active(now))
    return list(session.scalars(statement.order_by(UserSession.last_seen_at.desc(), UserSession.id_hash)))


def count_active(session: Session, user_ids: Collection[str], now: datetime) -> dict[str, int]:
    """Return the number of active sessions by user id. Users without active sessions are not included."""
    is_of_users = UserSession.user_id.in_(user_ids)
    statement = sa.select(UserSession.user_id, sa.func.count()).where(is_of_users, *is_active(now))
    return dict(session.execute(statement.group_by(UserSession.user_id)).all())


def _revoke(session: Session, now: datetime, *conditions: sa.ColumnElement[bool]) -> int:
    return update_where(session, UserSession, *conditions, *is_active(now), revoked_at=now)


def is_active(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for sessions that have not ended. They do not check whether the user is disabled."""
    return (
        UserSession.revoked_at.is_(None),
        UserSession.expires_at > now,
        UserSession.last_seen_at > now - IDLE_TIMEOUT,
    )
