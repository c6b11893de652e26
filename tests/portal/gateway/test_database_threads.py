"""Errors of the database in the gateway: no decision, and a log that tells wrong statements from outages."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.gateway import database_threads
from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable


def read_in_vain(database: Database, query: Callable[[Session], Any]) -> None:
    """Run a query that fails or takes too long."""

    async def run() -> None:
        threads = DatabaseThreads(database)
        with pytest.raises(DatabaseUnavailable):
            await threads.read(query)
        threads.close()

    asyncio.run(run())


def test_a_wrong_statement_is_logged_with_its_cause(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    read_in_vain(database, lambda session: session.execute(sa.text("SELECT 1 FROM missing_table")))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "missing_table" in str(record.exc_info[1])


def test_an_outage_is_logged_in_one_line(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_threads, "DATABASE_SECONDS", 0.1)
    may_end = threading.Event()
    try:
        read_in_vain(database, lambda _session: may_end.wait())
    finally:
        may_end.set()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
