"""Connections to bots that end when a bot sends without end what no browser receives. Used by the client for bots.

aiohttp reads a body only as fast as it is taken, but parses everything else at once: interim responses such as 103,
responses to no request, empty lines, extensions of chunks. A bot could occupy the gateway with them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from portal.gateway import limits

_HEAD_STEP = 4 * 1024
_BODY_STEP = 64 * 1024
"""How many bytes are parsed before the limits are checked, in a head and in a body."""


class _BotConnection(ResponseHandler):
    """A connection that counts what a bot sends besides bodies, since the start of its request."""

    _responses = 0
    _received = 0
    _body: Any = None

    def set_response_params(self, **parameters: Any) -> None:
        """Begin to count for the next request."""
        self._responses = self._received = 0
        self._body = None
        super().set_response_params(**parameters)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Count a response, and note its body."""
        self._responses += 1
        self._body = data[1]
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes in steps, and end the connection at the first one that exceeds a limit."""
        tunnel: Any = self._payload_parser
        if tunnel is not None:  # the bytes of a WebSocket are passed on
            super().data_received(data)
            return
        while True:
            step = _HEAD_STEP if self._body is None or self._body.is_eof() else _BODY_STEP
            part, data = data[:step], data[step:]
            self._received += len(part)
            super().data_received(part)
            if self._exceeds_limits():
                self._end()
                return
            if not data:
                return

    def _exceeds_limits(self) -> bool:
        body_bytes = self._body.total_bytes if self._body is not None else 0
        allowed = limits.MAX_BOT_FRAMING_BYTES + limits.MAX_BOT_FRAMING_FACTOR * body_bytes
        return self._responses > limits.MAX_BOT_RESPONSES or self._received > allowed

    def _end(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(HttpProcessingError(message="the bot sends more than a response"))


class BotConnector(TCPConnector):
    """Opens and keeps connections to bots."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no public way to choose the class of connections.
        self._factory = partial(_BotConnection, loop=asyncio.get_running_loop())  # type: ignore[assignment]
