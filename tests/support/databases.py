"""Databases for tests: migrated once per run, copied for each test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import flask_migrate
import psycopg
import pytest
from psycopg import sql

from portal.app import create_app
from portal.extensions import db
from portal.settings import Settings
from tests.support.postgres import MEMORY

TEMPLATE = "flotilla_template"


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


class SqliteTemplate:
    """A migrated SQLite file."""

    def __init__(self, folder: Path) -> None:
        """Make it in `folder`."""
        self._file = folder / "template.db"
        migrate(f"sqlite:///{self._file}", folder)

    @contextmanager
    def copy(self, folder: Path) -> Iterator[str]:
        """Give the URL of a fresh copy in `folder`."""
        target = folder / "flotilla.db"
        shutil.copyfile(self._file, target)
        yield f"sqlite:///{target}"


class PostgresTemplate:
    """A migrated PostgreSQL database that others are created from."""

    def __init__(self, server: str, folder: Path) -> None:
        """Make it on the cluster `server`, the URL of a database that is always there."""
        self._server = server
        self._run("CREATE DATABASE {}", TEMPLATE)
        self._strategy = _fastest_strategy(server)
        migrate(self._url(TEMPLATE), folder)

    @contextmanager
    def copy(self, _folder: Path) -> Iterator[str]:
        """Give the URL of a fresh copy, and drop it in the end."""
        name = f"test_{uuid4().hex}"
        self._run(f"CREATE DATABASE {{}} TEMPLATE {{}} {self._strategy}", name, TEMPLATE)
        try:
            yield self._url(name)
        finally:
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _url(self, name: str) -> str:
        return self._server.replace("postgresql://", "postgresql+psycopg://").rsplit("/", 1)[0] + f"/{name}"

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


def _fastest_strategy(server: str) -> str:
    """How to copy databases: in memory it is faster to copy files than to log every page, as newer versions do."""
    with psycopg.connect(server) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
        in_memory = row is not None and Path(row[0]).is_relative_to(MEMORY)
        return "STRATEGY FILE_COPY" if in_memory and connection.info.server_version >= 150000 else ""
