"""A connection of a browser: parses its requests and handles one after the other. Used by the gateway's server.

What is malformed ends the connection after a response to the requests before it. Parts of it are never repeated.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import httptools

from portal.gateway import limits
from portal.gateway.http.bodies import Body
from portal.gateway.http.connections import Connection, exceeds_framing
from portal.gateway.http.deadlines import Deadline
from portal.gateway.http.own_responses import refuse, send
from portal.gateway.http.request_headers import read_headers
from portal.gateway.http.requests import TOO_LARGE, BrowserRequest, Refused

logger = logging.getLogger(__name__)

Handle = Callable[[BrowserRequest], Awaitable[None]]

_HEAD_STEP = 4 * 1024
_BODY_STEP = 16 * 1024
"""How many bytes are parsed before the limits are checked, in a head and in a body."""
_MAX_HEAD_BYTES = limits.MAX_HEADER_BYTES + limits.MAX_LINE_BYTES + _BODY_STEP
"""Heads beyond `MAX_HEADER_BYTES` are refused by the handler; this ends those that never end."""
_LINGER_SECONDS = 1.0
_MALFORMED = "This request is malformed or could not be handled."


class BrowserConnection(Connection):
    """A connection of a browser. The parser calls the methods `on_...`.

    Args:
        handle: answers a request. It raises `ConnectionError` if the client has not received the response.
        on_lost: called when the connection is closed.
    """

    def __init__(self, handle: Handle, on_lost: Callable[[BrowserConnection], None]) -> None:
        super().__init__()
        self._handle = handle
        self._on_lost = on_lost
        self._parser = httptools.HttpRequestParser(self)
        self._deadline = Deadline(self._end_idle)
        self._requests: deque[BrowserRequest | Refused] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._receiving: BrowserRequest | None = None
        """The request whose body has not arrived completely."""
        self._target = b""
        self._headers: list[bytes] = []
        """Names and values in turn."""
        self._received = 0
        self._refused: Refused | None = None
        self._is_switching = False
        self.is_busy = False
        """Whether a request is being handled."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._deadline.set(limits.KEEP_ALIVE_SECONDS)
        self._task = asyncio.create_task(self._run())

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request that is being handled."""
        super().connection_lost(exc)
        self._deadline.close()
        if self._receiving is not None:
            self._receiving.body.fail(ConnectionResetError("the client is gone"))
        if self._task is not None:
            self._task.cancel()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or keep them while enough waits."""
        if self._tunnel is not None:
            self._tunnel.feed(data)
        elif self._is_waiting_to_parse:
            self.keep_unread(data)
        elif self._refused is None:
            self._parse(data)
            self._adjust_reading()

    def end_when_idle(self) -> None:
        """Close the connection now, or after the current response."""
        self.must_close = True
        if not self.is_busy:
            self._end_idle()

    async def wait_until_closed(self) -> None:
        """Wait until the current request was handled."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._target, self._headers, self._received = b"", [], 0

    def on_url(self, part: bytes) -> None:
        """Note a part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers are dropped."""
        if self._receiving is None:
            self._headers += (name, value)

    def on_headers_complete(self) -> None:
        """Hand the request over, whose body follows."""
        parser = self._parser
        if len(self._target) > limits.MAX_LINE_BYTES:
            self._refused = Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
            raise self._refused
        self._receiving = BrowserRequest(
            method=parser.get_method().decode(),
            target=self._target.decode("utf-8", "replace"),
            version=parser.get_http_version(),
            headers=read_headers(self._headers),
            body=Body(self._parse_unread),
            connection=self,
            keeps_connection=parser.should_keep_alive(),
        )
        self._requests.append(self._receiving)
        self._announce()

    def on_body(self, data: bytes) -> None:
        """Hand a part of the body over."""
        if self._receiving is not None:
            self._receiving.body.feed(data)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        if self._receiving is not None:
            self._receiving.body.end()
            self._receiving = None
            self._received = 0

    @property
    def _is_waiting_to_parse(self) -> bool:
        return self._is_switching or len(self._requests) >= limits.MAX_PIPELINED or self._is_body_full

    @property
    def _is_body_full(self) -> bool:
        return self._receiving is not None and self._receiving.body.is_full

    def _parse(self, data: bytes) -> None:
        """Parse in steps, and stop at the first one that is malformed, exceeds a limit, or has enough."""
        position = 0
        while position < len(data):
            if self._is_waiting_to_parse:
                self.keep_unread(data[position:])
                return
            step = _HEAD_STEP if self._receiving is None else _BODY_STEP
            part = data[position : position + step]
            try:
                self._parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                self._is_switching = True
                self.keep_unread(data[position + upgrade.args[0] :])
                return
            except httptools.HttpParserError:
                self._refuse_rest()
                return
            position += step
            self._received += len(part)
            if self._exceeds_limits():
                self._refuse_rest()
                return

    def _exceeds_limits(self) -> bool:
        if self._receiving is not None:
            return exceeds_framing(self._received, self._receiving.body.received)
        if self._received > _MAX_HEAD_BYTES:
            self._refused = Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
            return True
        return False

    def _refuse_rest(self) -> None:
        """Read no more, because requests could be hidden in what follows."""
        self._refused = self._refused or Refused(HTTPStatus.BAD_REQUEST, _MALFORMED)
        self.set_reading(False)
        if self._receiving is not None:
            self._receiving.body.fail(ConnectionResetError("the body is malformed"))
            self.close(_LINGER_SECONDS)  # its request cannot be completed
            return
        self._requests.append(self._refused)
        self._announce()

    def _announce(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _adjust_reading(self) -> None:
        if self._refused is None and self._tunnel is None:
            self.set_reading(not self._is_body_full and len(self._unread) < limits.BUFFER_BYTES)

    async def _run(self) -> None:
        """Handle requests until the connection is closed."""
        try:
            while not self.must_close:
                request = self._requests.popleft() if self._requests else await self._wait_for_request()
                self._parse_unread()
                if isinstance(request, Refused):
                    await send(refuse(request), self)
                    return
                await self._handle_one(request)
        except ConnectionError:
            self.abort()
        except Exception:
            logger.exception("could not handle a request")
            self.abort()
        finally:
            self.close(limits.CLIENT_IDLE_SECONDS)

    async def _wait_for_request(self) -> BrowserRequest | Refused:
        self._arrival = asyncio.get_running_loop().create_future()
        await self._arrival
        return self._requests.popleft()

    def _parse_unread(self) -> None:
        if self._unread and self._refused is None and not self._is_waiting_to_parse:
            unread, self._unread = self._unread, b""
            self._parse(unread)
        self._adjust_reading()

    async def _handle_one(self, request: BrowserRequest) -> None:
        is_last = not request.keeps_connection or self._is_switching or request.is_upgrade
        self.must_close = self.must_close or is_last
        self.is_busy = True
        self._deadline.set(None)
        try:
            await self._handle(request)
        finally:
            self.is_busy = False
        if not request.body.is_used_up:
            await self._drop_rest(request)
        self._deadline.set(limits.KEEP_ALIVE_SECONDS)

    async def _drop_rest(self, request: BrowserRequest) -> None:
        """Receive the rest of the body, because clients that are still sending may not read the response."""
        if request.is_waiting_to_send:
            self.must_close = True
            return
        try:
            async with asyncio.timeout(limits.DROP_SECONDS):
                await request.body.drop()
        except TimeoutError:
            self.must_close = True

    def _end_idle(self) -> None:
        if not self.is_busy and self._task is not None:
            self._task.cancel()
