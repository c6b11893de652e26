"""The requests that are being answered, so that a stop lets them end. Used by the HTTP server and the entry point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Activity:
    """Counts running requests, and closes open streams when the bot stops.

    Attributes:
        stopping: set when the bot stops; streams end then.
    """

    def __init__(self) -> None:
        """Begin without requests."""
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._running = 0
        self._closers: set[Callable[[], None]] = set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request until it is answered."""
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def stream(self, close: Callable[[], None]) -> Iterator[None]:
        """Call `close` from another thread when the bot stops while the stream is open."""
        with self._changed:
            self._closers.add(close)
        if self.stopping.is_set():
            close()
        try:
            yield
        finally:
            with self._changed:
                self._closers.discard(close)

    def stop(self, seconds: float) -> bool:
        """Close all streams and wait until no request runs.

        Args:
            seconds: longest time to wait.

        Returns:
            Whether all requests have ended.
        """
        self.stopping.set()
        with self._changed:
            closers = list(self._closers)
        for close in closers:
            # Side by side, because each may wait for a client that does not read.
            threading.Thread(target=close, daemon=True).start()
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)
