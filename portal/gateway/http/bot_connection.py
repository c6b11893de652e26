"""A connection to a bot: one request after the other, each with its response. Used by the client for bots.

A connection ends when a bot sends what no browser receives: interim responses such as 103 without end, a head without
end, responses to no request, extensions of chunks.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from http import HTTPStatus

import httptools

from portal.gateway import limits
from portal.gateway.http.bodies import Body
from portal.gateway.http.bot_errors import BadResponse, BotTooSlow, ConnectionClosed
from portal.gateway.http.connections import Connection, Tunnel, exceeds_framing
from portal.gateway.http.deadlines import Deadline
from portal.gateway.http.heads import decode_headers
from portal.gateway.http.response_head import ResponseHead, build_head

_FIRST_FINAL, _SWITCHING = HTTPStatus.OK.value, HTTPStatus.SWITCHING_PROTOCOLS.value
_HEAD_STEP = 4 * 1024
_BODY_STEP = 64 * 1024
"""How many bytes are parsed before the limits are checked, in a head and in a body."""


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
        self._parser = _create_parser(self)
        self._arrivals = select.poll()
        self._is_asked = False
        """Whether a response may come."""
        self._deadline = Deadline(self._give_up)
        self._idle_seconds: float | None = None
        self._is_without_body = False
        self._head: ResponseHead | None = None
        self._head_waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._headers: list[bytes] = []
        """Names and values in turn."""
        self._responses = self._received = 0
        self._is_kept_by_bot = False
        self._is_request_whole = True
        self._is_switched = False

    @property
    def is_reusable(self) -> bool:
        """Whether the bot may get another request on this connection, after a response that was used up."""
        is_used_up = self._head is not None and self._head.body.is_used_up
        is_kept = self._is_kept_by_bot and self._error is None and self.is_open
        # Some bots send a body after a response to HEAD. The next person would receive it as a response.
        return is_used_up and is_kept and self._is_request_whole and not self._is_without_body

    @property
    def has_arrivals(self) -> bool:
        """Whether something has arrived that was not read yet: bytes, or the end of the connection."""
        return bool(self._arrivals.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready to tell whether something has arrived."""
        super().connection_made(transport)
        self._arrivals.register(transport.get_extra_info("socket"), select.POLLIN)

    def begin_request(self, *, is_without_body: bool, idle_seconds: float | None) -> None:
        """Get ready for the response to another request.

        Args:
            is_without_body: whether the response has no body, also if its headers announce one.
            idle_seconds: how long the bot may send nothing after the request; None without a limit.
        """
        self._is_asked = True
        self._is_without_body, self._idle_seconds = is_without_body, idle_seconds
        self._head, self._error = None, None
        self._responses = self._received = 0
        self._is_kept_by_bot, self._is_request_whole = False, True
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
        self._is_asked, self._head = False, None
        self._deadline.set(limits.BOT_KEEP_ALIVE_SECONDS)

    def give_up_request(self, error: Exception | None = None) -> None:
        """Note that the bot does not get the whole request. It would take the next one for the rest of the body.

        Args:
            error: why there is no response unless it has begun; None if the bot may still respond.
        """
        self._is_request_whole = False
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
        elif not self._is_asked or self._error is not None:
            self.abort()
        else:
            self._parse(data)
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
            self._headers += (name, value)

    def on_headers_complete(self) -> None:
        """Hand the head over, unless it is interim."""
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL and status != _SWITCHING:
            return
        self._is_kept_by_bot = self._parser.should_keep_alive()
        headers = decode_headers(self._headers, "surrogateescape")  # many servers send Latin-1
        self._head = build_head(status, headers, Body(self._adjust_reading))
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

    def _parse(self, data: bytes) -> None:
        """Parse in steps, and end the connection at the first one that exceeds a limit."""
        position = 0
        while position < len(data):
            step = _HEAD_STEP if self._head is None else _BODY_STEP
            part = data[position : position + step]
            try:
                self._parser.feed_data(part)
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
        if self._head is not None:
            self._head.body.end()

    def _end(self, problem: str) -> None:
        """End the connection. A response that has arrived completely remains valid."""
        self._fail(BadResponse(problem))
        self.abort()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        if self._head is not None:
            self._head.body.fail(self._error)
        self._wake()

    def _give_up(self) -> None:
        if self._is_asked:
            self._fail(BotTooSlow())
        self.abort()

    def _adjust_reading(self) -> None:
        body = self._head.body if self._head is not None else None
        is_full = body is not None and body.is_full
        self.set_reading(not is_full)
        # The bot is not slow while the browser is.
        is_waiting = self.is_open and not is_full and not (body is not None and body.is_complete)
        self._deadline.set(self._idle_seconds if is_waiting else None)

    def _wake(self) -> None:
        if self._head_waiter is not None and not self._head_waiter.done():
            self._head_waiter.set_result(None)


def _create_parser(connection: BotConnection) -> httptools.HttpResponseParser:
    parser = httptools.HttpResponseParser(connection)
    # What some servers send, and what has only one meaning.
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser
