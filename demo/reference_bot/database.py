"""The bot's SQLite database: transactions and migrations. Used by everything that stores data.

The database is a file in a volume, so a restored volume restores notes and members together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

# The migration at index N upgrades the schema from version N to version N + 1. Migrations only add tables and columns
# with defaults, so that an older release can read the data of a newer schema.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    ("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",),
    ("ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'unknown'",),
    (
        """
        CREATE TABLE companies (
            id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, budget_cents INTEGER NOT NULL
        )
        """,
        "CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL)",
        # A row without a role is a tombstone: it keeps the version of a removal.
        """
        CREATE TABLE members (
            company_id TEXT NOT NULL REFERENCES companies (id) ON DELETE CASCADE,
            user_id TEXT NOT NULL,
            role TEXT,
            version INTEGER NOT NULL,
            PRIMARY KEY (company_id, user_id)
        )
        """,
        """
        CREATE TABLE answers (
            idempotency_key TEXT PRIMARY KEY,
            call TEXT NOT NULL,
            status INTEGER NOT NULL,
            content TEXT NOT NULL,
            company_id TEXT NOT NULL,
            stored_at INTEGER NOT NULL
        )
        """,
    ),
    ("ALTER TABLE notes ADD COLUMN written_at TEXT",),
)
BASE_SCHEMA = 3
LATEST_SCHEMA = len(MIGRATIONS)


class Database:
    """Short transactions on the database file; each opens a connection, so any thread can use any of them."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`, which the first migration creates."""
        self._path = path

    def migrate(self, schema: int, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
        """Upgrade the database to version `schema` in one transaction; a newer schema stays unchanged.

        Raises:
            sqlite3.Error: a migration failed; nothing has changed.
        """
        with self.write() as connection:
            current = read_schema(connection)
            for statement in (statement for migration in migrations[current:schema] for statement in migration):
                connection.execute(statement)
            if current < schema:  # write nothing when no migration ran: tests compare the file before and after
                connection.execute(f"PRAGMA user_version = {schema}")

    def check(self) -> None:
        """Check that the database answers.

        Raises:
            sqlite3.Error: the database does not answer.
        """
        with self.read() as connection:
            connection.execute("SELECT count(*) FROM notes").fetchone()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection on which all statements see the same state."""
        with self._connect() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield the only writing connection, and commit at the end; an exception undoes everything."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        # Closing a connection rolls back its open transaction.
        with closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # people who were removed leave no traces in free pages
            yield connection


def read_schema(connection: sqlite3.Connection) -> int:
    """Return the version of the schema; 0 for an empty database."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
