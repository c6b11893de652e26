"""What has had its time goes, and nothing else."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from daemon import jobs
from daemon.context import Context
from portal.database import Database
from portal.models import MailState, OneTimeToken, OutgoingMail, TokenPurpose, User, UserSession, utcnow
from portal.queue import connect
from portal.services import retention
from portal.settings import Settings

NOW = utcnow()


def ago(days: float) -> datetime:
    """A moment so many days ago."""
    return NOW - timedelta(days=days)


@pytest.fixture
def olga(database: Database) -> str:
    """Somebody who signs in now and then."""
    with database.transaction() as session:
        user = User(email="olga@example.com", email_normalized="olga@example.com", name="Olga")
        session.add(user)
        session.flush()
        return user.id


def left(database: Database, column: InstrumentedAttribute[str]) -> set[str]:
    """Tidy; what of a column is there afterwards."""
    with database.transaction() as session:
        retention.delete_expired(session, NOW)
    with database.reading() as session:
        return set(session.scalars(sa.select(column)))


def test_links_that_died_a_week_ago_go(database: Database) -> None:
    with database.transaction() as session:
        for days, used in ((8, True), (8, False), (6, True), (6, False), (-1, False)):
            token = OneTimeToken(
                purpose=TokenPurpose.RESET, email=f"{days}{used}", email_normalized="x", expires_at=ago(days)
            )
            token.used_at = ago(days) if used else None
            session.add(token)
    assert left(database, OneTimeToken.email) == {"6True", "6False", "-1False"}


def test_sessions_that_ended_a_month_ago_go_but_for_the_one_that_tells_when_somebody_was_seen_last(
    database: Database, olga: str
) -> None:
    def signed_in(name: str, days: float) -> None:
        with database.transaction() as session:
            session.add(UserSession(id_hash=name, user_id=olga, last_seen_at=ago(days + 7), expires_at=ago(days)))

    signed_in("very old", 60)
    signed_in("old", 31)
    assert left(database, UserSession.id_hash) == {"old"}
    signed_in("ended", 29)
    signed_in("alive", -7)
    assert left(database, UserSession.id_hash) == {"ended", "alive"}


def test_mails_of_long_ago_go_but_for_those_that_nobody_may_get_twice(database: Database) -> None:
    with database.transaction() as session:
        for days, template, state in (
            (91, "reset", MailState.SENT),
            (91, "invite", MailState.FAILED),
            (91, "signup", MailState.PENDING),
            (91, "updated", MailState.SENT),
            (91, "update_failed", MailState.FAILED),
            (91, "update_available", MailState.SENT),
            (89, "member_removed", MailState.SENT),
        ):
            mail = OutgoingMail(
                dedupe_key=template, to="x", template=template, state=state, next_attempt_at=ago(days)
            )
            session.add(mail)
    once_for_ever = {"updated", "update_failed", "update_available"}
    assert left(database, OutgoingMail.template) == {"signup", "member_removed", *once_for_ever}


def test_little_by_little(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    with database.transaction() as session:
        for number in range(3):
            token = OneTimeToken(purpose=TokenPurpose.RESET, email=str(number), email_normalized="x")
            token.expires_at = ago(8)
            session.add(token)
    assert len(left(database, OneTimeToken.email)) == 1
    assert left(database, OneTimeToken.email) == set()


def test_a_worker_tidies(
    database: Database, settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as session:
        session.add(OneTimeToken(purpose=TokenPurpose.RESET, email="x", email_normalized="x", expires_at=ago(8)))
    monkeypatch.setattr(jobs, "current_context", lambda: Context(settings, database, connect(redis_url)))
    jobs.delete_expired("old rows")
    with database.reading() as session:
        assert session.query(OneTimeToken).count() == 0
