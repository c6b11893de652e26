"""Tests of sessions: when they end and which tokens are valid."""

from datetime import datetime, timedelta

import pytest

from portal.database import Database
from portal.models import User, UserSession, utcnow
from portal.services.accounts import sessions
from tests import factories


@pytest.fixture
def started_at(database: Database) -> datetime:
    """Add the user `ann` and return the time at which her session starts."""
    with database.transaction() as session:
        factories.user(session, "ann", id="ann")
    return utcnow()


def start_session(database: Database, started_at: datetime) -> str:
    """Start a session of `ann` and return its token."""
    with database.transaction() as session:
        return sessions.start(session, "ann", now=started_at, user_agent="x" * 900, ip="2001:db8::1")


def is_active(database: Database, token: str, at: datetime) -> bool:
    """Whether the token belongs to an active session."""
    with database.reading() as session:
        return sessions.find(session, token, at) is not None


def test_used_session_ends_after_seven_days(database: Database, started_at: datetime) -> None:
    token = start_session(database, started_at)
    moment = started_at
    while moment + timedelta(hours=11) < started_at + timedelta(days=7):
        moment += timedelta(hours=11)
        assert is_active(database, token, moment)
        with database.transaction() as session:
            sessions.record_use(session, session.query(UserSession).one().id_hash, moment)
    assert not is_active(database, token, started_at + timedelta(days=7))


def test_idle_session_ends_after_twelve_hours(database: Database, started_at: datetime) -> None:
    token = start_session(database, started_at)
    assert is_active(database, token, started_at + timedelta(hours=11, minutes=59))
    assert not is_active(database, token, started_at + timedelta(hours=12))


def test_ended_session_is_not_active(database: Database, started_at: datetime) -> None:
    token = start_session(database, started_at)
    with database.transaction() as session:
        sessions.end(session, "ann", session.query(UserSession).one().id_hash, started_at)
    assert not is_active(database, token, started_at)


def test_session_of_a_disabled_user_is_not_active(database: Database, started_at: datetime) -> None:
    token = start_session(database, started_at)
    with database.transaction() as session:
        session.get_one(User, "ann").disabled_at = started_at
    assert not is_active(database, token, started_at)


def test_wrong_token_or_stored_hash_is_not_accepted(database: Database, started_at: datetime) -> None:
    start_session(database, started_at)
    with database.reading() as session:
        stored = session.query(UserSession).one().id_hash
    assert not is_active(database, "guess", started_at)
    assert not is_active(database, stored, started_at)
