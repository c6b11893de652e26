"""Connections to the database: what a suspended process can do to others."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from portal.database import Database, is_locked, is_unavailable
from portal.models import FleetSettings
from portal.settings import Settings


def change_settings(database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.update(FleetSettings).values(version=FleetSettings.version + 1))


def test_statement_does_not_wait_forever_for_a_suspended_process(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.database.WAIT_SECONDS", 0.1)
    suspended = Database(settings.database_url)
    with suspended.transaction() as session:
        session.execute(sa.update(FleetSettings).values(version=7))
        with pytest.raises(sa.exc.OperationalError) as raised:
            change_settings(database)
    suspended.dispose()

    assert is_unavailable(raised.value)
    assert is_locked(raised.value)
    change_settings(database)
    with database.reading() as reading:
        assert reading.get_one(FleetSettings, 1).version == 8


def test_postgresql_ends_the_transaction_of_a_suspended_process(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite cannot end the transaction of another process")
    monkeypatch.setattr("portal.database._MAX_IDLE_SECONDS", 0.2)
    suspended = Database(settings.database_url)

    def resume_late() -> None:
        with suspended.transaction() as session:
            session.execute(sa.update(FleetSettings).values(version=7))
            time.sleep(0.4)
            change_settings(database)
            session.execute(sa.select(FleetSettings.version))

    with pytest.raises(sa.exc.InternalError) as raised:
        resume_late()
    suspended.dispose()

    assert is_unavailable(raised.value)
    with database.reading() as reading:
        assert reading.get_one(FleetSettings, 1).version != 7
