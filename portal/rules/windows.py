"""Update windows: the hour of the day, in UTC, in which an organization's bots may be updated by themselves.

The window of hour 3 is [03:00, 04:00): an update starts inside it; one that started in its last minute may end after.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_LENGTH = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """One opening: updates may start at `opens` or later, but before `closes`."""

    opens: datetime
    closes: datetime


def is_open(hour: int, now: datetime) -> bool:
    """Whether an update may start now, for an organization that prefers `hour` (0 to 23, UTC)."""
    return now.astimezone(UTC).hour == hour


def next_window(hour: int, now: datetime) -> Window:
    """Find the window that is open now, else the next one, for an organization that prefers `hour` (0 to 23, UTC)."""
    utc = now.astimezone(UTC)
    opens = utc.replace(hour=hour, minute=0, second=0, microsecond=0)
    if opens + _LENGTH <= utc:
        opens += _DAY
    return Window(opens, opens + _LENGTH)
