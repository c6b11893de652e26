"""Databases of tests: migrated once per run, empty for each test. Used by the fixture `database_url`."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import flask_migrate
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event
from sqlalchemy.pool import Pool

from portal.app import create_app
from portal.models import new_id
from portal.settings import Settings
from portal.web.extensions import db


def list_kinds() -> list[str]:
    """Return the kinds of databases to test with, from `FLOTILLA_TEST_DATABASES`."""
    return os.environ.get("FLOTILLA_TEST_DATABASES", "sqlite").split(",")


def migrate(url: str, folder: Path) -> None:
    """Run all migrations on the database at `url`, as an operator does."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_URL", url)
        environment.setenv("DATA_DIR", str(folder))
        app = create_app(Settings.from_environment())
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()


def skip_syncs_of_sqlite() -> None:
    """Let SQLite not wait for the disk, for all engines of this process. Tests need not survive a power failure."""

    def skip(connection: Any, *_: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    # Not on "connect": there the portal sets its own value afterwards.
    event.listen(Pool, "checkout", skip)


class SqliteDatabase:
    """A migrated SQLite file, copied for each test."""

    def __init__(self, folder: Path) -> None:
        """Create the file in `folder`."""
        self._file = folder / "template.db"
        migrate(f"sqlite:///{self._file}", folder)

    @contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        """Yield the URL of a new copy in `folder`."""
        target = folder / "flotilla.db"
        shutil.copyfile(self._file, target)
        with closing(sqlite3.connect(target)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            # Tests share Docker engines, on which this id tells their containers apart.
            connection.execute("UPDATE fleet_settings SET install_id = ?", [new_id()])
        yield f"sqlite:///{target}"


SEEDED_TABLES = ("fleet_settings", "bot_templates")
"""Tables with one row, which a migration creates."""


class PostgresDatabase:
    """A migrated PostgreSQL database, emptied after each test, which is faster than creating a new one."""

    def __init__(self, server: str, folder: Path) -> None:
        """Set the cluster, given by the URL of its maintenance database."""
        self._server = server
        self._folder = folder
        self._url: str | None = None
        self._cleaner: psycopg.Connection | None = None
        self._tables: set[str] = set()
        self._seeded: dict[str, dict[str, Any]] = {}

    @contextmanager
    def empty(self, _folder: Path) -> Iterator[str]:
        """Yield the URL; afterwards delete all rows, or abandon the database if the test changed its tables."""
        url = self._url = self._url or self._create()
        try:
            yield url.replace("postgresql://", "postgresql+psycopg://")
        finally:
            cleaner = self._connect_cleaner(url)
            cleaner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if _list_tables(cleaner) == self._tables:
                _delete_rows(cleaner, self._tables)
                _insert_seeded_rows(cleaner, self._seeded)
            else:
                self.abandon()

    def abandon(self) -> None:
        """Disconnect from the database, so that the next test creates a new one."""
        if self._cleaner is not None:
            self._cleaner.close()
        self._cleaner = self._url = None

    def _connect_cleaner(self, url: str) -> psycopg.Connection:
        # One connection for all tests, because a new one would read the catalog of all tables again.
        if self._cleaner is None or self._cleaner.closed:
            self._cleaner = psycopg.connect(url, autocommit=True)
        return self._cleaner

    def _create(self) -> str:
        name = f"test_{uuid4().hex}"
        url = self._server.rsplit("/", 1)[0] + f"/{name}"
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(url.replace("postgresql://", "postgresql+psycopg://"), self._folder)
        with psycopg.connect(url) as connection:
            self._tables = _list_tables(connection)
            self._seeded = {table: _read_only_row(connection, table) for table in SEEDED_TABLES}
        return url


def _list_tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows} - {"alembic_version"}


def _delete_rows(connection: psycopg.Connection, tables: set[str]) -> None:
    # In the role `replica`, neither the triggers of events nor foreign keys prevent the deletion.
    connection.execute("SET session_replication_role = replica")
    deletions = [sql.SQL("DELETE FROM {}").format(sql.Identifier(table)) for table in tables]
    connection.execute(sql.SQL("; ").join(deletions))


def _read_only_row(connection: psycopg.Connection, table: str) -> dict[str, Any]:
    query = sql.SQL("SELECT row_to_json(r) FROM {} r").format(sql.Identifier(table))
    ((row,),) = connection.execute(query).fetchall()
    return dict(row)


def _insert_seeded_rows(connection: psycopg.Connection, rows: dict[str, dict[str, Any]]) -> None:
    """Insert the rows again that migrations had created, with a new id of the installation."""
    for table, row in rows.items():
        values = json.dumps({**row, "install_id": new_id()})
        query = sql.SQL("INSERT INTO {0} SELECT * FROM json_populate_record(NULL::{0}, %s::json)")
        connection.execute(query.format(sql.Identifier(table)), [values])
