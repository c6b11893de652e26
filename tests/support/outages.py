"""Databases that cannot be used for a while, because another process holds their locks. Used by tests of outages."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa

_HOLD_LOCKS_OF_WAL_INDEX = """
import fcntl, sys
index = open(sys.argv[1], "r+b")
fcntl.lockf(index, fcntl.LOCK_EX, 8, 120)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_database(url: str) -> Iterator[None]:
    """Hold the locks of all tables, so that other connections can neither read nor write.

    Close the other connections to SQLite before: while they are open, it gives no process such a lock.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database), isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("DELETE FROM leases WHERE name = 'none'")
            yield
        return
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        connection.execute("LOCK TABLE " + ", ".join(name for (name,) in tables))
        yield
        connection.rollback()


@contextmanager
def suspended_commit(file: Path) -> Iterator[None]:
    """Hold the locks of SQLite's WAL index, as a process that is suspended in a commit does.

    Every read then fails after about ten seconds with "locking protocol".

    Args:
        file: the database, to which a connection is open.
    """
    command = [sys.executable, "-c", _HOLD_LOCKS_OF_WAL_INDEX, f"{file}-shm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.kill()
