"""Jobs: their names, which the portal uses because it must not import the daemon, syncs, and the hourly job."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from daemon import jobs
from daemon.context import current_context
from daemon.provision import sync_jobs
from portal.database import Database
from portal.models import MailState, OutgoingMail, utcnow
from portal.queue import SYNCS_QUEUE, JobName, WaitingMessages
from portal.settings import Settings
from tests import factories
from tests.daemon.provision.toy_bot import running_toy_bot
from tests.daemon.provision.world import SyncWorld
from tests.support.outages import locked_database


def test_every_job_name_has_a_job() -> None:
    assert set(JobName) == jobs.NAMES


@pytest.mark.usefixtures("fresh_context")
def test_only_jobs_of_a_busy_fleet_are_logged(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    jobs.probe_node("no such node")
    jobs.update_bot("no such update")
    assert [record.getMessage() for record in caplog.records] == ["update_bot no such update"]


@pytest.mark.usefixtures("fresh_context")
def test_job_during_an_outage_is_logged_in_one_line_and_done_by_the_next(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("portal.database.WAIT_SECONDS", 0.1)
    with database.transaction() as session:
        long_ago = utcnow() - timedelta(days=400)
        mail_id = factories.mail(session, state=MailState.SENT, next_attempt_at=long_ago).id
    database.dispose()
    with locked_database(settings.database_url):
        jobs.delete_expired("old rows")

    assert "delete_expired old rows stopped, because the database cannot be used (OperationalError)" in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []
    jobs.delete_expired("old rows")
    with database.reading() as session:
        assert session.get(OutgoingMail, mail_id) is None


@pytest.mark.usefixtures("fresh_context")
def test_the_hourly_job_refreshes_the_statistics_of_sqlite(database: Database) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL collects its statistics automatically")
    with database.transaction() as session:
        factories.user(session)

    jobs.delete_expired("old rows")

    with database.reading() as session:
        query = sa.text("SELECT stat FROM sqlite_stat1 WHERE tbl = 'users'")
        assert session.scalars(query).all()


@pytest.mark.usefixtures("fresh_context")
def test_bots_that_answered_are_synced_by_the_job_of_their_node(database: Database) -> None:
    with running_toy_bot() as toy:
        world = SyncWorld(database, toy)
        jobs.sync_unanswering("bots without an answer")
        assert toy.received == []
        jobs.sync_node(world.node_id)
        assert world.is_settled()


@pytest.mark.usefixtures("fresh_context")
def test_bots_that_did_not_answer_are_synced_by_a_job_for_all_nodes(database: Database) -> None:
    with running_toy_bot() as toy:
        world = SyncWorld(database, toy)
        world.change_sync(unanswered_calls=1)
        jobs.sync_node(world.node_id)
        assert toy.received == []
        jobs.sync_unanswering("bots without an answer")
        assert world.is_settled()


@pytest.mark.usefixtures("fresh_context")
def test_sync_of_a_node_continues_with_another_job_when_its_time_is_over(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)

    def is_enqueued() -> bool:
        waiting = WaitingMessages(current_context().redis)
        return waiting.contains(JobName.SYNC_NODE, world.node_id, SYNCS_QUEUE)

    with running_toy_bot() as toy:
        world = SyncWorld(database, toy)
        with monkeypatch.context() as patch:
            patch.setattr(sync_jobs, "_JOB_SECONDS", 0.0)
            jobs.sync_node(world.node_id)
        assert (toy.received, is_enqueued()) == ([], True)
        current_context().redis.flushdb()
        jobs.sync_node(world.node_id)
        assert (world.is_settled(), is_enqueued()) == (True, False)
