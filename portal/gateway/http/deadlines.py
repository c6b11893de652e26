"""Deadlines of connections that are moved with almost every message. Used by the connections of both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls a function when a time has passed. To move it costs much less than a new timer of the event loop.

    Args:
        on_passed: called in the event loop.
    """

    __slots__ = ("_at", "_loop", "_on_passed", "_timer")

    def __init__(self, on_passed: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_passed = on_passed
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float | None) -> None:
        """Move the deadline to `seconds` from now; None removes it."""
        if seconds is None:
            self._at = None
            return
        self._at = self._loop.time() + seconds
        # A timer that ends earlier is started again then.
        if self._timer is None or self._timer.when() > self._at:
            self._start_timer(self._at)

    def close(self) -> None:
        """Remove the deadline and its timer."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._start_timer(self._at)
            return
        self._at = None
        self._on_passed()
