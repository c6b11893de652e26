"""Windows: the time span of each day in which automatic updates of an organization start, given its update hour.

The window of the update hour 3 is [03:00, 04:00). An update starts inside the window and may end after it. Used by
the planner's input, the forecast, the claim of an update, and pages that show the next window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_LENGTH = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """One window: updates may start from `opens` until just before `closes`."""

    opens: datetime
    closes: datetime


def is_open(hour: int, now: datetime) -> bool:
    """Return whether the window of the update hour `hour` (0 to 23, UTC) is open now."""
    return now.astimezone(UTC).hour == hour


def next_window(hour: int, now: datetime) -> Window:
    """Return the window of the update hour `hour` (0 to 23, UTC) that is open now, or else the next one."""
    utc = now.astimezone(UTC)
    opens = utc.replace(hour=hour, minute=0, second=0, microsecond=0)
    if opens + _LENGTH <= utc:
        opens += _DAY
    return Window(opens, opens + _LENGTH)
