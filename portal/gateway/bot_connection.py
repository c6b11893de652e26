"""A connection to a bot: one request after the other, each with its response. Used by the client for bots.

A connection ends when a bot sends what no browser receives: interim responses such as 103 without end, a head without
end, responses to no request, extensions of chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import httptools

from portal.gateway import limits
from portal.gateway.bodies import Body
from portal.gateway.bot_errors import BadResponse, BotTooSlow, ConnectionClosed
from portal.gateway.connections import Connection, Tunnel, exceeds_framing
from portal.gateway.deadlines import Deadline
from portal.gateway.http_heads import decode_headers
from portal.rules.proxy_headers import Headers

_HEAD_STEP = 4 * 1024
_BODY_STEP = 64 * 1024
"""How many bytes are parsed before the limits are checked, in a head and in a body."""


@dataclass(slots=True)
class ResponseHead:
    """The head of a response, and the body that follows.

    Attributes:
        status: the status.
        headers: names and values as they were received.
        length: length of the body in bytes; None if the bot does not announce it.
        body: the body.
        ends_with_connection: whether only the end of the connection tells the end of the body.
    """

    status: int
    headers: Headers
    length: int | None
    body: Body
    ends_with_connection: bool


class BotConnection(Connection):
    """A connection to a bot. The parser calls the methods `on_...`.

    Args:
        address: `host:port` of the bot.
        on_lost: called when the connection is closed.
    """

    def __init__(self, address: str, on_lost: Callable[[BotConnection], None]) -> None:
        super().__init__()
        self.address = address
        self._on_lost = on_lost
        self._parser: httptools.HttpResponseParser | None = None
        self._deadline = Deadline(self._give_up)
        self._idle_seconds: float | None = None
        self._is_without_body = False
        self._head: ResponseHead | None = None
        self._head_waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._responses = self._received = 0
        self._may_be_kept = False
        self._is_switched = False

    @property
    def is_reusable(self) -> bool:
        """Whether the bot may get another request on this connection, after a response that was used up."""
        is_done = self._head is not None and self._head.body.is_used_up
        return is_done and self._may_be_kept and self._error is None and self.is_open

    def begin_request(self, *, is_without_body: bool, idle_seconds: float | None) -> None:
        """Get ready for the response to another request.

        Args:
            is_without_body: whether the response has no body, whatever its headers say.
            idle_seconds: how long the bot may send nothing after the request; None without a limit.
        """
        self._parser = httptools.HttpResponseParser(self)
        # What some servers send, and what has only one meaning.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._is_without_body, self._idle_seconds = is_without_body, idle_seconds
        self._head, self._error = None, None
        self._responses = self._received = 0
        self._may_be_kept = False
        self._deadline.set(None)

    def expect_response(self) -> None:
        """Begin to limit how long the bot may send nothing, because the request was sent."""
        if self._head is None or not self._head.body.is_complete:
            self._deadline.set(self._idle_seconds)

    async def receive_head(self) -> ResponseHead:
        """Wait for the head of the response.

        Raises:
            ConnectionClosed: the bot closed the connection.
            BadResponse: the bot does not speak HTTP.
            BotTooSlow: the bot sent nothing for too long.
            RequestIncomplete: the body of the request has not arrived.
        """
        if self._head is None and self._error is None:
            self._head_waiter = asyncio.get_running_loop().create_future()
            await self._head_waiter
        if self._head is None:
            raise self._error or ConnectionClosed
        return self._head

    def keep(self) -> None:
        """Wait for another request for a while."""
        self._parser = self._head = None
        self._deadline.set(limits.BOT_KEEP_ALIVE_SECONDS)

    def give_up_request(self, error: Exception | None = None) -> None:
        """Note that the bot does not get the whole request. It would take the next one for the rest of the body.

        Args:
            error: why there is no response unless it has begun; None if the bot may still respond.
        """
        self._may_be_kept = False
        if self._head is None and error is not None:
            self._fail(error)

    def begin_tunnel(self, tunnel: Tunnel) -> None:
        """Pass all bytes on from now on. A tunnel has its own limit for silence."""
        self._deadline.close()
        super().begin_tunnel(tunnel)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if self._tunnel is not None:
            self._tunnel.feed(data)
        elif self._is_switched:
            self.keep_unread(data)
        elif self._parser is None or self._error is not None:
            self.abort()  # nothing was asked
        else:
            self._deadline.set(self._idle_seconds)
            self._parse(self._parser, data)
            self._adjust_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete a body that ends with the connection, or give the response up."""
        self._deadline.close()
        if exc is None and self._error is None and self._head is not None and self._head.ends_with_connection:
            self._head.body.end()
        self._fail(ConnectionClosed())
        self._on_lost(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count a response."""
        self._responses += 1
        self._headers = []
        if self._head is not None:
            raise BadResponse("a response to no request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers are dropped."""
        if self._head is None:
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Hand the head over, unless it is interim."""
        parser = self._parser
        if parser is None:
            return
        status = parser.get_status_code()
        if status < HTTPStatus.OK and status != HTTPStatus.SWITCHING_PROTOCOLS:
            return
        self._may_be_kept = self._may_be_kept or parser.should_keep_alive()
        self._head = _build_head(status, decode_headers(self._headers), Body(self._adjust_reading))
        if self._is_without_body:
            self._complete()
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Hand a part of the body over."""
        if self._head is None or self._head.body.is_complete:
            raise BadResponse("a body where there is none")
        self._head.body.feed(data)

    def on_message_complete(self) -> None:
        """Note the end of a response."""
        if self._head is not None and not self._head.body.is_complete:
            self._complete()

    def _parse(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        """Parse in steps, and end the connection at the first one that exceeds a limit."""
        position = 0
        while position < len(data):
            step = _HEAD_STEP if self._head is None else _BODY_STEP
            part = data[position : position + step]
            try:
                parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                self._is_switched = True
                self.keep_unread(data[position + upgrade.args[0] :])
                return
            except httptools.HttpParserError:
                self._end("the bot does not speak HTTP")
                return
            position += step
            self._received += len(part)
            if self._exceeds_limits():
                self._end("the bot sends more than a response")
                return

    def _exceeds_limits(self) -> bool:
        if self._responses > limits.MAX_BOT_RESPONSES:
            return True
        if self._head is None:
            return self._received > limits.MAX_BOT_HEAD_BYTES
        return exceeds_framing(self._received, self._head.body.received)

    def _complete(self) -> None:
        self._deadline.set(None)
        if self._head is not None:
            self._head.body.end()

    def _end(self, problem: str) -> None:
        """End the connection. A response that has arrived completely remains valid."""
        self._may_be_kept = False
        self._fail(BadResponse(problem))
        self.abort()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        if self._head is not None:
            self._head.body.fail(self._error)
        self._wake()

    def _give_up(self) -> None:
        if self._parser is not None:
            self._fail(BotTooSlow())
        self.abort()

    def _adjust_reading(self) -> None:
        is_full = self._head is not None and self._head.body.is_full
        if is_full is self._is_reading:
            self.set_reading(not is_full)
            # The bot is not slow while the browser is.
            self._deadline.set(None if is_full else self._idle_seconds)

    def _wake(self) -> None:
        if self._head_waiter is not None and not self._head_waiter.done():
            self._head_waiter.set_result(None)


def _build_head(status: int, headers: Headers, body: Body) -> ResponseHead:
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    codings = [value for name, value in headers if name.lower() == "transfer-encoding"]
    is_chunked = ",".join(codings).lower().rpartition(",")[2].strip() == "chunked"
    length = int(lengths[0]) if lengths and not codings else None
    return ResponseHead(status, headers, length, body, ends_with_connection=not lengths and not is_chunked)
