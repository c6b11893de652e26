"""Sessions of signed-in browsers."""

from datetime import datetime, timedelta

import pytest

from portal.database import Database
from portal.models import User, UserSession, utcnow
from portal.services.accounts import sessions


@pytest.fixture
def began(database: Database) -> datetime:
    """The moment at which the user `ann` signs in."""
    with database.transaction() as session:
        session.add(User(id="ann", email="ann@example.com", email_normalized="ann@example.com", name="Ann"))
    return utcnow()


def start(database: Database, began: datetime) -> str:
    """Sign ann in."""
    with database.transaction() as session:
        return sessions.start(session, "ann", now=began, user_agent="x" * 900, ip="2001:db8::1")


def alive(database: Database, token: str, at: datetime) -> bool:
    """Whether the cookie still counts."""
    with database.reading() as session:
        return sessions.find(session, token, at) is not None


def test_it_lives_while_it_is_used_but_not_for_ever(database: Database, began: datetime) -> None:
    token = start(database, began)
    moment = began
    while moment + timedelta(hours=11) < began + timedelta(days=7):
        moment += timedelta(hours=11)
        assert alive(database, token, moment)
        with database.transaction() as session:
            sessions.record_use(session, session.query(UserSession).one().id_hash, moment)
    assert not alive(database, token, began + timedelta(days=7))


def test_idle_for_twelve_hours_it_has_ended(database: Database, began: datetime) -> None:
    token = start(database, began)
    assert alive(database, token, began + timedelta(hours=11, minutes=59))
    assert not alive(database, token, began + timedelta(hours=12))


def test_ended_it_stays_ended(database: Database, began: datetime) -> None:
    token = start(database, began)
    with database.transaction() as session:
        sessions.end(session, "ann", session.query(UserSession).one().id_hash, began)
    assert not alive(database, token, began)


def test_disabling_the_user_ends_it(database: Database, began: datetime) -> None:
    token = start(database, began)
    with database.transaction() as session:
        session.get_one(User, "ann").disabled_at = began
    assert not alive(database, token, began)


def test_a_guessed_token_is_nobody(database: Database, began: datetime) -> None:
    start(database, began)
    with database.reading() as session:
        stored = session.query(UserSession).one().id_hash
    assert not alive(database, "guess", began)
    assert not alive(database, stored, began)
