"""The access log of the gateway: one line per request. Used by the handler of requests.

Paths, queries and cookies are never logged, because they may contain secrets and private data.
"""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)


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

    def write(self, status: int, size: int) -> None:
        """Log the request.

        Args:
            status: status of the response; 499 if the client went away before.
            size: bytes of the response.
        """
        milliseconds = (time.monotonic() - self._started) * 1000
        logger.info(
            "%s %s bot=%s user=%s %d %d bytes %.1f ms",
            self._method,
            self.route,
            self.bot_id,
            self.user_id,
            status,
            size,
            milliseconds,
        )
