"""The bot's notes: a SQLite database in one volume, a file per note in the other. Used by the bot's server."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# The migration at index N upgrades the schema from version N to version N + 1.
MIGRATIONS = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'unknown'",
)
FIRST_SCHEMA = 1
LATEST_SCHEMA = len(MIGRATIONS)


class Store:
    """Notes in volumes. Migrations only add, so an older release can read the data of a newer schema."""

    def __init__(self, data: Path, files: Path) -> None:
        """Use the volume `data` for the database and the volume `files` for one file per note."""
        self._database = data / "bot.db"
        self._files = files / "notes"

    def migrate(self, schema: int) -> None:
        """Upgrade the database to version `schema`; a newer schema stays unchanged."""
        self._files.mkdir(exist_ok=True)
        with self._connect() as connection:
            current = self._schema(connection)
            for migration in MIGRATIONS[current:schema]:
                connection.execute(migration)
            if current < schema:  # write nothing when no migration ran: tests compare the file before and after
                connection.execute(f"PRAGMA user_version = {schema}")

    def check(self) -> None:
        """Check that the database answers.

        Raises:
            sqlite3.Error: the database does not answer.
        """
        with self._connect() as connection:
            connection.execute("SELECT count(*) FROM notes").fetchone()

    def list_notes(self) -> list[str]:
        """Return all notes, oldest first."""
        with self._connect() as connection:
            return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]

    def add(self, text: str, author: str) -> None:
        """Store a note in both volumes."""
        with self._connect() as connection:
            if self._schema(connection) >= LATEST_SCHEMA:
                cursor = connection.execute("INSERT INTO notes (text, author) VALUES (?, ?)", (text, author))
            else:
                cursor = connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
            number = cursor.lastrowid
        (self._files / f"{number}.txt").write_text(text)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._database, timeout=5)) as connection, connection:
            yield connection

    @staticmethod
    def _schema(connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version
