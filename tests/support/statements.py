"""Counting and limiting of SQL statements. Used by tests of how the cost of pages and jobs grows with the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

_STEPS_PER_CALL = 1000


@contextmanager
def counted_statements(engine: sa.Engine) -> Iterator[list[str]]:
    """Yield a list to which every statement executed by `engine` within the `with` block is added."""
    sent: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    sa.event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", record)


@contextmanager
def limited_statements(engine: sa.Engine, *, steps: int, seconds: float) -> Iterator[list[str]]:
    """End every statement that works too long, and yield the list of the ended statements.

    SQLite counts the instructions of its virtual machine, which do not depend on the speed of the computer.

    Args:
        engine: the engine that executes the statements within the `with` block.
        steps: limit of instructions of SQLite.
        seconds: limit of PostgreSQL, which counts no instructions.
    """
    ended: list[str] = []
    statement, counted = "", 0

    def count() -> bool:
        nonlocal counted
        counted += _STEPS_PER_CALL
        return counted > steps

    def begin(_connection: Any, cursor: Any, text: str, *_rest: Any) -> None:
        nonlocal statement, counted
        statement, counted = text, 0
        if engine.dialect.name == "sqlite":
            cursor.connection.set_progress_handler(count, _STEPS_PER_CALL)
        else:
            cursor.execute(f"SET statement_timeout = {int(seconds * 1000)}")

    def record(context: Any) -> None:
        if "interrupted" in str(context.original_exception) or "statement timeout" in str(context.original_exception):
            ended.append(statement)

    sa.event.listen(engine, "before_cursor_execute", begin)
    sa.event.listen(engine, "handle_error", record)
    try:
        yield ended
    finally:
        sa.event.remove(engine, "before_cursor_execute", begin)
        sa.event.remove(engine, "handle_error", record)
        engine.dispose()  # removes the limits of its connections
