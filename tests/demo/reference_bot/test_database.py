"""Migrations of the reference bot's database, and what a snapshot of its volume contains."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from demo.reference_bot.behaviour import Behaviour, ReleaseInfo
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.database import BASE_SCHEMA, LATEST_SCHEMA, MIGRATIONS, Database, read_schema
from demo.reference_bot.notes import Notes
from tests.demo.reference_bot.local_bots import ALICE, BOB, make_bot, running_bot

FIRST_RELEASED_SCHEMA = 1
"""The schema of releases that had no members."""


@pytest.mark.parametrize("schema", range(FIRST_RELEASED_SCHEMA, LATEST_SCHEMA + 1))
def test_data_of_every_earlier_schema_is_migrated(tmp_path: Path, schema: int) -> None:
    (tmp_path / "data").mkdir()
    database = Database(tmp_path / "data" / "bot.db")
    database.migrate(schema)
    with database.write() as connection:
        connection.execute("INSERT INTO notes (text) VALUES ('old')")
    with running_bot(tmp_path) as bot:
        bot.provision()
        assert bot.visit("/notes", ALICE, {"text": "new"}).status == 303
        assert bot.visit("/notes", ALICE).json == {"notes": ["old", "new"]}


def test_an_earlier_release_reads_and_writes_the_newest_data(tmp_path: Path) -> None:
    newer = make_bot(tmp_path, Configuration(), ReleaseInfo("2", Behaviour.MIGRATING))
    newer.migrate()
    newer.notes.add("newer", "Alice")
    with running_bot(tmp_path) as bot:
        company = bot.provision()
        bot.add(company, BOB, "member", version=1)
        bot.visit("/notes", BOB, {"text": "older"})
        assert bot.visit("/notes", BOB).json == {"notes": ["newer", "older"]}


def test_restored_volume_has_the_members_of_its_time(tmp_path: Path) -> None:
    with running_bot(tmp_path) as bot:
        company = bot.provision()
        bot.add(company, BOB, "admin", version=1)
    shutil.copytree(tmp_path / "data", tmp_path / "snapshot")
    with running_bot(tmp_path) as bot:
        bot.remove(company, BOB, version=2)
    shutil.rmtree(tmp_path / "data")
    shutil.move(tmp_path / "snapshot", tmp_path / "data")
    with running_bot(tmp_path) as bot:
        assert bot.roles(company) == {ALICE["id"]: "owner", BOB["id"]: "admin"}
        assert bot.remove(company, BOB, version=2) == (200, {"ok": True})
        assert bot.visit("/", BOB).status == 403


def test_a_start_without_migration_changes_no_byte(tmp_path: Path) -> None:
    with running_bot(tmp_path) as bot:
        bot.provision()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "data").iterdir()}
    with running_bot(tmp_path) as bot:
        assert bot.send("GET", "/health").status == 200
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "data").iterdir()}


def test_a_failed_migration_changes_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    database = Database(tmp_path / "bot.db")
    database.migrate(BASE_SCHEMA)
    broken = (*MIGRATIONS[:BASE_SCHEMA], (*MIGRATIONS[BASE_SCHEMA], "ALTER TABLE no_such_table ADD COLUMN x"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.migrate(LATEST_SCHEMA, broken)
    with database.read() as connection:
        assert read_schema(connection) == BASE_SCHEMA
    database.migrate(LATEST_SCHEMA)


def test_migrations_only_add(tmp_path: Path) -> None:
    statements = [" ".join(statement.split()) for migration in MIGRATIONS for statement in migration]
    assert [text for text in statements if not text.startswith(("CREATE TABLE ", "ALTER TABLE "))] == []
    altered = [text for text in statements if text.startswith("ALTER TABLE ")]
    # A required column without a default would break the INSERT of an earlier release.
    assert [
        text for text in altered if " ADD COLUMN " not in text or ("NOT NULL" in text and "DEFAULT" not in text)
    ] == []


def test_a_note_without_its_file_is_not_stored(tmp_path: Path) -> None:
    database = Database(tmp_path / "bot.db")
    database.migrate(LATEST_SCHEMA)
    notes = Notes(database, tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        notes.add("lost", "Alice")
    assert notes.list_texts() == []
