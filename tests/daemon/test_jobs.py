"""Jobs: their names, which the portal uses because it must not import the daemon, and the hourly job."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from daemon import jobs
from portal.database import Database
from portal.models import MailState, OutgoingMail, utcnow
from portal.queue import JobName
from portal.settings import Settings
from tests import factories
from tests.support.outages import locked_database


def test_every_job_name_has_a_job() -> None:
    assert set(JobName) == jobs.NAMES


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
