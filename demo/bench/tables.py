"""Tables on the terminal, and what a piece of work costs in time and queries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event


@dataclass(frozen=True)
class Table:
    """One table: the first column is text, the others are numbers."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def print(self) -> None:
        """Print it with columns as wide as they need to be."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        print(f"\n{self.title}\n")
        for line in lines:
            cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
            print("  " + "   ".join([line[0].ljust(widths[0]), *cells[1:]]))
        if self.note:
            print(f"\n  {self.note}")
        print(end="", flush=True)


@dataclass(frozen=True)
class Cost:
    """What a piece of work takes: seconds (the median of all turns) and statements sent to the database per turn."""

    seconds: float
    queries: int

    @property
    def cells(self) -> tuple[str, str]:
        """As two columns: milliseconds, queries."""
        return f"{self.seconds * 1000:.0f}", str(self.queries)


def cost_of(work: Callable[[], Any], engine: sa.Engine, turns: int = 1) -> Cost:
    """Do a piece of work and tell what it took."""
    seconds = []
    with _counting(engine) as statements:
        for _ in range(turns):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
    return Cost(statistics.median(seconds), len(statements) // turns)


@contextmanager
def _counting(engine: sa.Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)
