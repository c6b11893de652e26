"""Tunnels for WebSockets: after the handshake, bytes pass unchanged in both directions. Used by the request handler.

Frames are not decoded, so that pings, close codes, extensions and messages of any size pass with constant memory.
Only the boundaries of the bot's frames are followed, because a close frame of the gateway has to be between two of
them.
"""

from __future__ import annotations

import asyncio
import base64
import time
from hashlib import sha1
from http import HTTPStatus

from portal.gateway import forwarding, limits
from portal.gateway.exchanges import GOING_AWAY, Exchange
from portal.gateway.http.bot_client import BotClient, BotRequest, BotResponse
from portal.gateway.http.bot_errors import BadResponse, BotUnreachable, ConnectionClosed
from portal.gateway.http.connections import Connection
from portal.gateway.http.heads import build_response_head
from portal.gateway.http.own_responses import Sent
from portal.gateway.http.requests import BrowserRequest
from portal.rules import proxy_headers
from portal.rules.proxy_headers import Headers

_HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket"}
_HANDSHAKE_ID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The text of RFC 6455 by which a server proves that it speaks WebSocket."""
_CLOSE_FRAME = b"\x88\x02"
_LINGER_SECONDS = 1.0
_MAX_FRAMES_AT_ONCE = 2000
"""In one part that was received. Sockets with more frames end without a close frame."""


async def open_tunnel(
    client: BotClient, browser: BrowserRequest, exchange: Exchange, headers: Headers, outer: str
) -> Sent:
    """Ask the bot to open a socket, and pass bytes until one side closes, or its response if it does not open one.

    Args:
        client: the client for bots.
        browser: the request for a socket.
        exchange: the running socket.
        headers: the headers for the bot.
        outer: URL of the bot for browsers.

    Raises:
        BotUnreachable: the bot does not answer.
        BadResponse: the bot does not speak HTTP or WebSocket.
    """
    with await _connect(client, browser, exchange, headers) as answer:
        if answer.head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return await _run(browser, exchange, answer, outer)
        return await forwarding.pass_on(answer, browser, exchange, outer)


async def _connect(client: BotClient, browser: BrowserRequest, exchange: Exchange, headers: Headers) -> BotResponse:
    request = BotRequest(
        address=exchange.address,
        method=browser.method,
        target=browser.target,
        headers=[*headers, *_HANDSHAKE.items()],
        idle_seconds=limits.BOT_IDLE_SECONDS,  # of a response that opens no socket
    )
    try:
        async with asyncio.timeout(limits.HANDSHAKE_SECONDS):
            return await client.ask(request)
    except (ConnectionClosed, TimeoutError) as error:
        raise BotUnreachable(was_sent=True) from error


async def _run(browser: BrowserRequest, exchange: Exchange, answer: BotResponse, outer: str) -> Sent:
    """Complete the handshake with the browser, and pass bytes until one side closes."""
    _require_accepted(browser, answer)
    headers = proxy_headers.select_response_headers(answer.head.headers, inner=exchange.address, outer=outer)
    browser.is_answered = True
    browser.connection.write(build_response_head(answer.head.status, [*headers, *_HANDSHAKE.items()]))
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    from_bot = _Flow(answer.connection, browser.connection, ended)
    from_browser = _Flow(browser.connection, answer.connection, ended)
    exchange.is_stream, exchange.abort = True, from_bot.close
    answer.connection.begin_tunnel(from_bot)
    browser.connection.begin_tunnel(from_browser)
    await _wait_until_idle(ended, from_bot, from_browser)
    return Sent(answer.head.status, from_bot.size)


def _require_accepted(browser: BrowserRequest, answer: BotResponse) -> None:
    """Check that the bot has accepted a WebSocket, and not only answered with the status 101.

    Otherwise, it could still expect HTTP, and the browser could send any request through the tunnel.
    """
    key = ", ".join(browser.values("sec-websocket-key"))
    digest = sha1(f"{key}{_HANDSHAKE_ID}".encode(), usedforsecurity=False).digest()
    if answer.head.fields.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise BadResponse("the bot switched to another protocol than WebSocket")


async def _wait_until_idle(ended: asyncio.Future[None], *flows: _Flow) -> None:
    while not ended.done():
        idle = time.monotonic() - max(flow.last_byte_at for flow in flows)
        if idle >= limits.BOT_IDLE_SECONDS:
            flows[0].close(GOING_AWAY)
            return
        await asyncio.wait([ended], timeout=limits.BOT_IDLE_SECONDS - idle)


class _Flow:
    """One direction of a tunnel, which takes the bytes of one connection and sends them on the other one.

    Args:
        source: the connection from which bytes come.
        target: the connection to which they go.
        ended: set when one of the connections was closed.
    """

    def __init__(self, source: Connection, target: Connection, ended: asyncio.Future[None]) -> None:
        self._source = source
        self._target = target
        self._ended = ended
        self._frames = _FrameBoundaries()
        self._resuming: asyncio.Task[None] | None = None
        self.last_byte_at = time.monotonic()
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Pass bytes on. While the target accepts no more, do not read from the source."""
        if not self._target.is_open:
            self.end()
            return
        self.last_byte_at = time.monotonic()
        self.size += len(data)
        self._frames.feed(data)
        self._target.write(data)
        if self._target.is_writing_paused and self._resuming is None:
            self._source.set_reading(False)
            self._resuming = asyncio.create_task(self._resume())

    def end(self) -> None:
        """End the tunnel, because the source was closed."""
        if not self._ended.done():
            self._ended.set_result(None)

    def close(self, code: int) -> None:
        """End the tunnel with a close frame if the target is between two frames, otherwise without one."""
        if self._target.is_open:
            if self._frames.is_between_frames and not self._target.is_writing_paused:
                self._target.write(_CLOSE_FRAME + code.to_bytes(2, "big"))
                self._target.close(_LINGER_SECONDS)
            else:
                self._target.abort()
        self.end()

    async def _resume(self) -> None:
        try:
            await self._target.drain()
        except ConnectionError:
            self.end()
        finally:
            self._resuming = None
            self._source.set_reading(True)


class _FrameBoundaries:
    """Follows the frames of RFC 6455 in a stream of bytes, by their headers."""

    def __init__(self) -> None:
        self._header = b""
        self._payload_left = 0
        self._is_lost = False

    @property
    def is_between_frames(self) -> bool:
        """Whether the bytes so far are known to end with a frame."""
        return not (self._header or self._payload_left or self._is_lost)

    def feed(self, data: bytes) -> None:
        """Follow the next bytes. Of too many frames at once the end is not searched, because that would take long."""
        if self._is_lost or self._payload_left >= len(data):
            self._payload_left = max(0, self._payload_left - len(data))
            return
        data, position = self._header + data[self._payload_left :], 0
        self._header, self._payload_left = b"", 0
        for _ in range(_MAX_FRAMES_AT_ONCE):
            size = _measure_frame(data, position)
            if size is None:
                self._header = data[position:]
                return
            position += size
            if position >= len(data):
                self._payload_left = position - len(data)
                return
        self._is_lost = True


def _measure_frame(data: bytes, start: int) -> int | None:
    """Return the length of the frame that starts at a position; None if its header is incomplete."""
    if len(data) < start + 2:
        return None
    length, mask = data[start + 1] & 0x7F, 4 if data[start + 1] & 0x80 else 0
    extended = {126: 2, 127: 8}.get(length, 0)
    if len(data) < start + 2 + extended + mask:
        return None
    payload = int.from_bytes(data[start + 2 : start + 2 + extended], "big") if extended else length
    return 2 + extended + mask + payload
