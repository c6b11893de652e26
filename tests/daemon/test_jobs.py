"""Jobs: their names, which the portal uses because it must not import the daemon, and the hourly job."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from daemon import jobs
from portal.database import Database
from portal.queue import JobName
from tests import factories


def test_every_job_name_has_a_job() -> None:
    assert set(JobName) == jobs.NAMES


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
