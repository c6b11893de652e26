"""The database as every process uses it: engine, pragmas, short transactions, the database's own clock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

_writing: ContextVar[bool] = ContextVar("writing", default=False)


class Database:
    """The database of one process outside the web application (worker, scheduler, command line).

    Args:
        url: an SQLAlchemy address, `sqlite:///…` or `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, **engine_options(url))
        prepare(self.engine)
        self._session = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One short unit of work: committed at the end, rolled back when it raises.

        Nothing slow belongs inside: no Docker, HTTP, SMTP or password hashing, for SQLite has one writer.
        """
        with writing(), self._session.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent look at the database that writes nothing."""
        with self._session() as session:
            yield session

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


@contextmanager
def writing() -> Iterator[None]:
    """Transactions begun in here take SQLite's write lock at once.

    SQLite refuses to upgrade a read transaction while another connection writes, whatever its busy timeout is.
    """
    token = _writing.set(True)
    try:
        yield
    finally:
        _writing.reset(token)


def set_write_intent(intent: bool) -> None:
    """The same for a caller that cannot wrap its work, such as a web request: say so before the first query."""
    _writing.set(intent)


def engine_options(url: str) -> dict[str, Any]:
    """Arguments for `create_engine` that fit the kind of database."""
    # Without the parameters an error in the log shows no address, no hash and no ciphertext.
    common = {"hide_parameters": True}
    if url.startswith("sqlite"):
        return {**common, "connect_args": {"timeout": 15}}
    return {**common, "pool_pre_ping": True, "pool_size": 5, "max_overflow": 10}


def prepare(engine: Engine) -> None:
    """Attach the pragmas and the `BEGIN IMMEDIATE` rule for SQLite, and keep forked children off our connections."""
    # A forked child that used the parent's sockets would corrupt both conversations.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    if engine.dialect.name != "sqlite":
        return
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)


def database_now(session: Session) -> datetime:
    """The database's own clock, so that leases do not depend on the clocks of many machines."""
    if session.get_bind().dialect.name == "sqlite":
        text = session.scalar(sa.text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"))
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    stamp = session.scalar(sa.text("SELECT clock_timestamp()"))
    assert isinstance(stamp, datetime)  # noqa: S101 - tells the type checker what PostgreSQL answers
    return stamp.astimezone(UTC)


def is_reachable(session: Session) -> bool:
    """Return whether the database answers a trivial query. Used by `/healthz`."""
    try:
        session.execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling would begin too late; `_on_sqlite_begin` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "busy_timeout = 15000", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    # SQLite's own knows no letters but A to Z, so a search for "özil" would not find "Özil".
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: Any) -> str | None:
    return None if value is None else str(value).lower()


def _on_sqlite_begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writing.get() else "BEGIN")
