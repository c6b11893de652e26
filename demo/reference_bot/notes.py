"""The bot's notes: rows of the database, and a file per note in the second volume. Used by the bot's pages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from .database import LATEST_SCHEMA, Database, read_schema


class Notes:
    """Notes of all members."""

    def __init__(self, database: Database, folder: Path) -> None:
        """Store rows in `database`, and files in `folder`, which must exist."""
        self._database = database
        self._folder = folder

    def list_texts(self) -> list[str]:
        """Return the texts of all notes, oldest first."""
        with self._database.read() as connection:
            return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]

    def add(self, text: str, author: str) -> None:
        """Store a note in both volumes."""
        with self._database.write() as connection:
            cursor = connection.execute("INSERT INTO notes (text, author) VALUES (?, ?)", (text, author))
            number = cursor.lastrowid
            if read_schema(connection) >= LATEST_SCHEMA:
                now = datetime.now(UTC).isoformat()
                connection.execute("UPDATE notes SET written_at = ? WHERE id = ?", (now, number))
            # Before the commit: a file without a row is overwritten by the next note, a row without a file is a loss.
            (self._folder / f"{number}.txt").write_text(text)
