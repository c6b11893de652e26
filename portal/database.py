"""Database access: engine options, SQLite pragmas, transactions and the database's clock. Used by all processes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

UNAVAILABLE_ERRORS = (OperationalError, InterfaceError, InternalError, NoFreeConnection)
"""Errors of a database that is locked, full, stopped, or out of connections; but see `is_unavailable`."""
WAIT_SECONDS = 15
"""How long a statement waits for a lock of another process, which may be suspended."""
_MAX_IDLE_SECONDS = 60
"""PostgreSQL ends a transaction that executes nothing for this time, because its process may be suspended."""

_FAILED_TRANSACTION = "25P02"
_LOCKED_STATES = {"55P03", "40P01"}
"""PostgreSQL's codes for a lock that was not available in time, and for a deadlock."""

_write_intent: ContextVar[bool] = ContextVar("writing", default=False)


class Database:
    """The database of a process outside the web application: worker, scheduler or command.

    Args:
        url: an SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
        after_commit: called with the session after each committed transaction.
    """

    def __init__(self, url: str, after_commit: Callable[[Session], None] | None = None) -> None:
        self._after_commit = after_commit
        self.engine = sa.create_engine(url, **engine_options(url))
        prepare(self.engine)
        self._session = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a write transaction; commit it at the end of the block, or roll it back if the block raises.

        Keep it short, without calls to Docker, HTTP, SMTP or password hashing: SQLite allows one writer at a time.
        """
        with writing(), self._session.begin() as session:
            yield session
        if self._after_commit is not None:
            self._after_commit(session)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a read-only transaction."""
        with self._session() as session:
            yield session

    def refresh_statistics(self) -> None:
        """Collect the statistics by which SQLite chooses indexes. PostgreSQL collects its own automatically."""
        if self.engine.dialect.name != "sqlite":
            return
        with self.transaction() as session:
            # The limit keeps this short, because it holds the write lock: it reads a sample of each index.
            session.execute(sa.text("PRAGMA analysis_limit = 1000"))
            session.execute(sa.text("ANALYZE"))

    def dispose(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


@contextmanager
def writing() -> Iterator[None]:
    """Let transactions in this block take SQLite's write lock when they begin.

    SQLite refuses to upgrade a read transaction while another connection writes, regardless of the busy timeout.
    """
    token = _write_intent.set(True)
    try:
        yield
    finally:
        _write_intent.reset(token)


def set_write_intent(intent: bool) -> None:
    """Set whether later transactions take SQLite's write lock. Web requests call it before their first query."""
    _write_intent.set(intent)


def engine_options(url: str) -> dict[str, Any]:
    """Return the arguments of `create_engine` for the given kind of database."""
    # Parameters in logged errors would reveal email addresses, hashes and ciphertexts.
    common = {"hide_parameters": True}
    if url.startswith("sqlite"):
        # A connection reads the statistics of indexes once, so it is replaced after an hour.
        return {**common, "connect_args": {"timeout": WAIT_SECONDS}, "pool_recycle": 3600}
    return {**common, "pool_pre_ping": True, "pool_size": 5, "max_overflow": 10}


def prepare(engine: Engine) -> None:
    """Set up an engine: time limits, pragmas and `BEGIN IMMEDIATE` for SQLite, new connections in forked children."""
    # A forked child must not use the sockets of its parent.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    if engine.dialect.name != "sqlite":
        event.listen(engine, "connect", _on_postgresql_connect)
        return
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)


def database_now(session: Session) -> datetime:
    """Return the moment of the database's clock, so that leases do not depend on the clocks of several machines."""
    if session.get_bind().dialect.name == "sqlite":
        text = session.scalar(sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"))
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    stamp = session.scalar(sa.text("SELECT clock_timestamp()"))
    assert isinstance(stamp, datetime)  # noqa: S101 - tells the type checker what PostgreSQL returns
    return stamp.astimezone(UTC)


class moment_by_database(FunctionElement[datetime]):  # noqa: N801 - named like the functions of SQLAlchemy
    """The moment of the database's clock inside of a statement, which saves the query of `database_now`.

    Args:
        seconds: how many seconds after that moment.
    """

    type = sa.DateTime(timezone=True)
    inherit_cache = True

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(sa.literal(seconds))


@compiles(moment_by_database, "sqlite")
def _compile_for_sqlite(element: moment_by_database, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # In the format in which moments are stored, with microseconds.
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000')"


@compiles(moment_by_database, "postgresql")
def _compile_for_postgresql(element: moment_by_database, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


def is_unavailable(error: BaseException) -> bool:
    """Return whether the same work may succeed later: the database is locked, full, stopped, or out of connections.

    SQLite also raises `OperationalError` for statements that are wrong, for example because a table is missing, and
    PostgreSQL raises `InternalError` for a statement after a failed one.
    """
    cause = getattr(error, "orig", None)
    is_wrong = (
        getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        or getattr(cause, "sqlstate", None) == _FAILED_TRANSACTION
    )
    return isinstance(error, UNAVAILABLE_ERRORS) and not is_wrong


def is_locked(error: BaseException) -> bool:
    """Return whether the database gave up waiting for another process, which is busy or suspended in a commit."""
    cause = getattr(error, "orig", None)
    if getattr(cause, "sqlstate", None) in _LOCKED_STATES:
        return True
    # An extended code contains the primary code in its last byte.
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


def is_reachable(session: Session) -> bool:
    """Return whether the database answers a trivial query. Used by `/healthz`."""
    try:
        # A query without a table does not read SQLite's file, so it would not notice that the file is locked.
        session.execute(sa.text("SELECT 1 FROM alembic_version"))
    except SQLAlchemyError:
        return False
    return True


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # `_on_sqlite_begin` begins transactions, because the driver would begin them too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    busy_timeout = f"busy_timeout = {WAIT_SECONDS * 1000:.0f}"
    for pragma in (busy_timeout, "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # SQLite's function only supports A to Z, so a search for "özil" would not find "Özil".
    connection.create_function("lower", 1, _lower, deterministic=True)


def _on_postgresql_connect(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{WAIT_SECONDS * 1000:.0f}ms'")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_MAX_IDLE_SECONDS * 1000:.0f}ms'")
    connection.commit()  # a rollback would undo the settings


def _lower(value: Any) -> str | None:
    return None if value is None else str(value).lower()


def _on_sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _write_intent.get() else "BEGIN")
