"""People who use their bots all the time, to count requests that fail in an update. Used by the end-to-end check."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from demo.checks.visitors import Visitor

_PAUSE_SECONDS = 0.1
_REQUESTS_PER_NOTE = 10
_FAILURES_SHOWN = 5


@dataclass
class Traffic:
    """What the people have seen.

    Attributes:
        sent: number of requests.
        failures: a line per request that did not succeed.
        longest_wait: seconds until the slowest response.
        notes: texts of the notes that bots have accepted, by the id of the bot.
    """

    sent: int = 0
    failures: list[str] = field(default_factory=list)
    longest_wait: float = 0.0
    notes: dict[str, list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def describe(self) -> str:
        """Return the result in words."""
        written = sum(len(texts) for texts in self.notes.values())
        result = f"{len(self.failures)} failed requests, longest wait {self.longest_wait:.1f} s"
        lines = [f"{result} ({self.sent} requests, {written} notes written)", *self.failures[:_FAILURES_SHOWN]]
        return "\n    ".join(lines)

    def run(self, bot_id: str, visitor: Visitor, stopped: threading.Event) -> None:
        """Send requests of one person in a row until `stopped` is set. Every tenth writes a note."""
        notes = self.notes.setdefault(bot_id, [])
        number = 0
        while not stopped.wait(_PAUSE_SECONDS):
            number += 1
            note = f"Note {number} during the update" if number % _REQUESTS_PER_NOTE == 0 else None
            if self._send(visitor, note) and note is not None:
                notes.append(note)

    def _send(self, visitor: Visitor, note: str | None) -> bool:
        began = time.monotonic()
        try:
            status = (visitor.add_note(note) if note is not None else visitor.get("/notes")).status_code
            failure = None if status == (200 if note is None else 303) else f"status {status}"
        except requests.RequestException as error:
            failure = type(error).__name__
        with self._lock:
            self.sent += 1
            self.longest_wait = max(self.longest_wait, time.monotonic() - began)
            if failure is not None:
                self.failures.append(f"{visitor.url} {'GET' if note is None else 'POST'} /notes: {failure}")
        return failure is None


@contextmanager
def running_traffic(visitors: Mapping[str, Visitor]) -> Iterator[Traffic]:
    """Let people use their bots for the duration of a `with` block, each with ten requests per second.

    Args:
        visitors: the people by the id of their bot.
    """
    traffic, stopped = Traffic(), threading.Event()
    threads = [threading.Thread(target=traffic.run, args=(*each, stopped)) for each in visitors.items()]
    for thread in threads:
        thread.start()
    try:
        yield traffic
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
