"""The bot's notes: a SQLite database in one volume, and a copy of each note as a file in the other."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

# Each entry brings the database from the version of its index to the next.
MIGRATIONS = (
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'unknown'",
)
FIRST_SCHEMA = 1
LATEST_SCHEMA = len(MIGRATIONS)


class Store:
    """Notes that survive the container. A release reads data of a newer schema too: changes only add."""

    def __init__(self, data: Path, files: Path) -> None:
        """Use the volume `data` for the database and the volume `files` for copies."""
        self._database = data / "bot.db"
        self._files = files / "notes"

    def migrate(self, schema: int) -> None:
        """Bring the database up to `schema`; a newer one stays as it is."""
        self._files.mkdir(exist_ok=True)
        with self._connect() as connection:
            current = self._schema(connection)
            for migration in MIGRATIONS[current:schema]:
                connection.execute(migration)
            if current < schema:  # a start that changes nothing must not touch the file
                connection.execute(f"PRAGMA user_version = {schema}")

    def check(self) -> None:
        """Ask the database something.

        Raises:
            sqlite3.Error: it does not answer.
        """
        with self._connect() as connection:
            connection.execute("SELECT count(*) FROM notes").fetchone()

    def notes(self) -> list[str]:
        """Return all notes, oldest first."""
        with self._connect() as connection:
            return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]

    def add(self, text: str, author: str) -> None:
        """Keep a note in both volumes."""
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
