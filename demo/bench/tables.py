"""Tables on the terminal, and the cost of a function in time and queries. Used by all benchmarks."""

from __future__ import annotations

import math
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
    """A table whose first column is text and whose other columns are numbers."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def print(self) -> None:
        """Print the table with aligned columns."""
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
    """Durations in seconds, and number of database statements per repetition.

    Attributes:
        seconds: median of the durations.
        queries: number of statements.
        slowest: 99th percentile of the durations.
        cpu_seconds: median of the CPU time of this process, which other processes of a busy machine do not change.
    """

    seconds: float
    queries: int
    slowest: float
    cpu_seconds: float

    @property
    def cells(self) -> tuple[str, str]:
        """Cells for two columns: milliseconds and queries."""
        return f"{self.seconds * 1000:.0f}", str(self.queries)


def measure_cost(function: Callable[[], Any], engine: sa.Engine, repetitions: int = 1) -> Cost:
    """Call a function and measure its duration and its database statements.

    Args:
        function: what is measured.
        engine: whose statements are counted.
        repetitions: number of calls.
    """
    seconds, cpu_seconds = [], []
    with _recorded_statements(engine) as statements:
        for _ in range(repetitions):
            started, cpu_started = time.perf_counter(), time.process_time()
            function()
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
    return Cost(
        seconds=statistics.median(seconds),
        queries=len(statements) // repetitions,
        slowest=find_percentile(seconds, 0.99),
        cpu_seconds=statistics.median(cpu_seconds),
    )


def find_percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that this share of the values does not exceed.

    Args:
        values: at least one.
        share: above 0, up to 1.
    """
    return sorted(values)[math.ceil(len(values) * share) - 1]


@contextmanager
def _recorded_statements(engine: sa.Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)
