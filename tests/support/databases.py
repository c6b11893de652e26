"""Databases for tests, migrated once per run; each test gets an empty one."""

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

from portal.app import create_app
from portal.models import new_id
from portal.settings import Settings
from portal.web.extensions import db


def kinds() -> list[str]:
    """Return the databases to test with: `FLOTILLA_TEST_DATABASES`, such as `sqlite,postgresql`."""
    return os.environ.get("FLOTILLA_TEST_DATABASES", "sqlite").split(",")


def migrate(url: str, folder: Path) -> None:
    """Bring the database at `url` to the newest schema the way an operator does."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DATABASE_URL", url)
        environment.setenv("DATA_DIR", str(folder))
        app = create_app(Settings.from_environment())
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()


class SqliteDatabase:
    """A migrated SQLite file."""

    def __init__(self, folder: Path) -> None:
        """Make it in `folder`."""
        self._file = folder / "template.db"
        migrate(f"sqlite:///{self._file}", folder)

    @contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        """Give the URL of a fresh copy in `folder`."""
        target = folder / "flotilla.db"
        shutil.copyfile(self._file, target)
        with closing(sqlite3.connect(target)) as connection, connection:
            # Tests share Docker engines, where this id says whose containers are whose.
            connection.execute("UPDATE fleet_settings SET install_id = ?", [new_id()])
        yield f"sqlite:///{target}"


class PostgresDatabase:
    """A migrated PostgreSQL database that is emptied after each test, which is faster than a new one each time."""

    def __init__(self, server: str, folder: Path) -> None:
        """Use the cluster `server`, the URL of a database that is always there."""
        self._server = server
        self._folder = folder
        self._url: str | None = None
        self._tables: set[str] = set()
        self._settings: dict[str, Any] = {}

    @contextmanager
    def empty(self, _folder: Path) -> Iterator[str]:
        """Give its URL; afterwards delete what the test left, or give the database up where tables have changed."""
        url = self._url = self._url or self._made()
        try:
            yield url.replace("postgresql://", "postgresql+psycopg://")
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                if _tables(connection) == self._tables:
                    _empty(connection, self._tables)
                    _seed(connection, self._settings)
                else:
                    self._url = None

    def _made(self) -> str:
        name = f"test_{uuid4().hex}"
        url = self._server.rsplit("/", 1)[0] + f"/{name}"
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(url.replace("postgresql://", "postgresql+psycopg://"), self._folder)
        with psycopg.connect(url) as connection:
            self._tables = _tables(connection)
            ((self._settings,),) = connection.execute("SELECT row_to_json(s) FROM fleet_settings s").fetchall()
        return url


def _tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows} - {"alembic_version"}


def _empty(connection: psycopg.Connection, tables: set[str]) -> None:
    # Triggers would refuse to delete events, and foreign keys would ask for an order: a replica heeds neither.
    connection.execute("SET session_replication_role = replica")
    deletions = [sql.SQL("DELETE FROM {}").format(sql.Identifier(table)) for table in tables]
    connection.execute(sql.SQL("; ").join(deletions))


def _seed(connection: psycopg.Connection, settings: dict[str, Any]) -> None:
    """Insert the row of settings again that the migration had created."""
    row = json.dumps({**settings, "install_id": new_id()})
    connection.execute(
        "INSERT INTO fleet_settings SELECT * FROM json_populate_record(NULL::fleet_settings, %s::json)", [row]
    )
