"""The health of a bot over a period: spans of one state, bars of a chart, interruptions. Used by the bot's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HEALTHY = "running"
UPDATING = "updating"
NO_DATA = "no data"

_WORST_FIRST = ("missing", "unhealthy", "stopped", "unknown", UPDATING, HEALTHY, NO_DATA)
"""The state that gives a bar its colour is the first one that occurs in it."""


@dataclass(frozen=True)
class Span:
    """A period in one state."""

    start: datetime
    end: datetime
    state: str

    @property
    def duration(self) -> timedelta:
        """How long the period lasts."""
        return self.end - self.start


@dataclass(frozen=True)
class StateChange:
    """A change of the state of a bot."""

    at: datetime
    old: str
    new: str


def build_spans(
    changes: Sequence[StateChange], current: str, *, begin: datetime, known_since: datetime, now: datetime
) -> list[Span]:
    """Build the spans of a period without gaps.

    Args:
        changes: the changes within the period, oldest first.
        current: the state now.
        begin: the begin of the period.
        known_since: when the bot was added. Before, there are no data.
        now: the end of the period.
    """
    start = min(max(begin, known_since), now)
    spans = [Span(begin, start, NO_DATA)]
    state = changes[0].old if changes else current
    for change in changes:
        at = max(change.at, start)
        spans.append(Span(start, at, state))
        start, state = at, change.new
    spans.append(Span(start, now, state))
    return [span for span in spans if span.duration > timedelta()]


def overlay(spans: Iterable[Span], upper: Iterable[Span]) -> list[Span]:
    """Lay spans over others, such as the downtimes of updates, during which no state is observed."""
    result = list(spans)
    for top in upper:
        covered = [piece for span in result for piece in _cut(span, top)]
        inside = Span(max(top.start, result[0].start), min(top.end, result[-1].end), top.state) if result else top
        result = sorted([*covered, *([inside] if inside.duration > timedelta() else [])], key=lambda span: span.start)
    return result


def build_bars(spans: Sequence[Span], count: int) -> list[Span]:
    """Divide a period into bars of equal length, each with the worst state that occurs in it."""
    if not spans:
        return []
    begin, length = spans[0].start, (spans[-1].end - spans[0].start) / count
    bars = []
    for number in range(count):
        start, end = begin + length * number, begin + length * (number + 1)
        states = {span.state for span in spans if span.start < end and span.end > start}
        bars.append(Span(start, end, next((state for state in _WORST_FIRST if state in states), NO_DATA)))
    return bars


def list_interruptions(spans: Iterable[Span]) -> list[Span]:
    """List the spans in which the bot was not healthy, the latest first."""
    return [span for span in spans if span.state not in {HEALTHY, NO_DATA}][::-1]


def measure_health(spans: Iterable[Span]) -> float | None:
    """Return the percentage of the time with data in which the bot was healthy; None without data."""
    known = [span for span in spans if span.state != NO_DATA]
    total = sum((span.duration for span in known), timedelta())
    healthy = sum((span.duration for span in known if span.state == HEALTHY), timedelta())
    return 100 * (healthy / total) if total else None


def _cut(span: Span, top: Span) -> list[Span]:
    """Return what is left of a span outside of another one."""
    before = Span(span.start, min(span.end, top.start), span.state)
    after = Span(max(span.start, top.end), span.end, span.state)
    return [piece for piece in (before, after) if piece.duration > timedelta()]
