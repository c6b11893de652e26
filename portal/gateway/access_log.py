"""The access log of the gateway: one line per request. Used by the handler of requests.

Paths, queries and cookies are never logged, because they may contain secrets and private data.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime

_FLUSH_SECONDS = 0.5


class AccessLog:
    """Writes lines to standard error, in the format of the other records, twice a second.

    A record of `logging` for each request would take a tenth of the time of the request.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._second, self._moment = 0, ""
        self._head = f"INFO {os.getpid()} - {__name__}:"

    def add(self, text: str) -> None:
        """Add a line. The text must not come from a client or a bot."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._moment = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self._lines.append(f"{self._moment}.{int((now - second) * 1000):03d}+00:00 {self._head} {text}\n")

    def flush(self) -> None:
        """Write all lines."""
        if self._lines:
            lines, self._lines = self._lines, []
            sys.stderr.write("".join(lines))
            sys.stderr.flush()

    async def run(self) -> None:
        """Write lines until this task is cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            self.flush()


class AccessRecord:
    """What is known about a request when its line is written.

    Attributes:
        route: what the request was for, such as `bot`, `socket` or `enter`.
        bot_id: the bot; `-` before a session is recognized.
        user_id: the person; `-` before a session is recognized.
    """

    def __init__(self, method: str) -> None:
        self.route = "-"
        self.bot_id = "-"
        self.user_id = "-"
        self._method = method if method.isascii() and method.isalpha() else "?"
        self._started = time.monotonic()

    def describe(self, status: int, size: int) -> str:
        """Return the text of the line.

        Args:
            status: status of the response; 499 if the client went away before.
            size: bytes of the response.
        """
        milliseconds = (time.monotonic() - self._started) * 1000
        return (
            f"{self._method} {self.route} bot={self.bot_id} user={self.user_id}"
            f" {status:d} {size} bytes {milliseconds:.1f} ms"
        )
