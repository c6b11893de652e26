"""Deletion of expired rows."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

from daemon import jobs
from daemon.context import Context
from portal.database import Database
from portal.models import (
    Bot,
    BotUpdate,
    GatewayProcess,
    GatewaySession,
    GatewayTicket,
    MailState,
    OneTimeToken,
    OutgoingMail,
    Release,
    RolloutState,
    TokenPurpose,
    UpdateState,
    User,
    UserSession,
    utcnow,
)
from portal.queue import connect
from portal.services import retention
from portal.settings import Settings
from tests import factories
from tests.support.cast import Cast
from tests.support.scene import Scene

NOW = utcnow()


def ago(days: float) -> datetime:
    """Return the moment `days` before now."""
    return NOW - timedelta(days=days)


@pytest.fixture
def olga(database: Database) -> str:
    """Create a user."""
    with database.transaction() as session:
        return factories.user(session, "olga").id


def list_remaining(database: Database, column: InstrumentedAttribute[str]) -> set[str]:
    """Delete expired rows, and return the remaining values of a column."""
    with database.transaction() as session:
        retention.delete_expired(session, NOW)
    with database.reading() as session:
        return set(session.scalars(sa.select(column)))


def test_links_are_deleted_a_week_after_they_expired(database: Database) -> None:
    with database.transaction() as session:
        for days, used in ((8, True), (8, False), (6, True), (6, False), (-1, False)):
            token = OneTimeToken(
                purpose=TokenPurpose.RESET, email=f"{days}{used}", email_normalized="x", expires_at=ago(days)
            )
            token.used_at = ago(days) if used else None
            session.add(token)
    assert list_remaining(database, OneTimeToken.email) == {"6True", "6False", "-1False"}


def test_sessions_are_deleted_a_month_after_they_expired_except_the_latest_of_a_user(
    database: Database, olga: str
) -> None:
    def add_session(name: str, days: float) -> None:
        with database.transaction() as session:
            session.add(UserSession(id_hash=name, user_id=olga, last_seen_at=ago(days + 7), expires_at=ago(days)))

    add_session("very old", 60)
    add_session("old", 31)
    assert list_remaining(database, UserSession.id_hash) == {"old"}
    add_session("ended", 29)
    add_session("alive", -7)
    assert list_remaining(database, UserSession.id_hash) == {"ended", "alive"}


def test_old_mails_are_deleted_except_those_that_are_sent_only_once(database: Database) -> None:
    with database.transaction() as session:
        for days, template, state in (
            (91, "reset", MailState.SENT),
            (91, "invite", MailState.FAILED),
            (91, "org_deletion", MailState.CANCELLED),
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
    sent_only_once = {"updated", "update_failed"}
    assert list_remaining(database, OutgoingMail.template) == {"signup", "member_removed", *sent_only_once}


def test_rows_are_deleted_in_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH_SIZE", 2)
    with database.transaction() as session:
        for number in range(3):
            token = OneTimeToken(purpose=TokenPurpose.RESET, email=str(number), email_normalized="x")
            token.expires_at = ago(8)
            session.add(token)
    assert len(list_remaining(database, OneTimeToken.email)) == 1
    assert list_remaining(database, OneTimeToken.email) == set()


def test_the_job_deletes_expired_rows(
    database: Database, settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as session:
        session.add(OneTimeToken(purpose=TokenPurpose.RESET, email="x", email_normalized="x", expires_at=ago(8)))
    monkeypatch.setattr(jobs, "current_context", lambda: Context(settings, database, connect(redis_url)))
    jobs.delete_expired("old rows")
    with database.reading() as session:
        assert session.query(OneTimeToken).count() == 0


def test_tickets_and_dead_gateway_processes_are_deleted(database: Database, cast: Cast, scene: Scene) -> None:
    with database.transaction() as session:
        bob, bot = session.get_one(User, cast.people["bob"]), session.get_one(Bot, scene.bots[0])
        for hours in (2, 0.5):
            factories.gateway_session(session, bob, bot)
            newest = sa.select(GatewayTicket).where(GatewayTicket.expires_at > NOW)
            session.scalars(newest).one().expires_at = NOW - timedelta(hours=hours)
        session.add_all([GatewayProcess(id="dead", seen_at=ago(2), held={}), GatewayProcess(id="alive", held={})])
    assert len(list_remaining(database, GatewayTicket.token_hash)) == 1
    assert list_remaining(database, GatewayProcess.id) == {"alive"}
    assert len(list_remaining(database, GatewaySession.token_hash)) == 2


def test_old_clean_updates_lose_the_description_of_their_container(database: Database, scene: Scene) -> None:
    cases: dict[str, tuple[UpdateState, datetime | None]] = {
        "updated": (UpdateState.UPDATED, ago(8)),
        "failed": (UpdateState.FAILED, ago(8)),
        "young": (UpdateState.UPDATED, ago(6)),
        "not cleaned": (UpdateState.ROLLED_BACK, None),
        "for an operator": (UpdateState.NEEDS_ATTENTION, ago(8)),
    }
    with database.transaction() as session:
        bot, release = session.get_one(Bot, scene.bots[0]), session.get_one(Release, scene.new)
        for name, (state, cleaned_at) in cases.items():
            values = {"state": state, "cleaned_at": cleaned_at, "ended_at": ago(9), "log_tail": name}
            rollout = factories.rollout(session, release, state=RolloutState.COMPLETED)
            factories.update(session, rollout, bot, saved_container={"container": {}}, journal={"a": 1}, **values)

    with database.transaction() as session:
        retention.delete_expired(session, NOW)
    with database.reading() as session:
        rows = {row.log_tail: (row.saved_container, row.journal) for row in session.scalars(sa.select(BotUpdate))}
    trimmed: Any = (None, {})
    kept: Any = ({"container": {}}, {"a": 1})
    assert {name: rows[name] for name in cases} == {
        name: trimmed if name in {"updated", "failed"} else kept for name in cases
    }
