"""The client for bots: sends a request, and its body while the response already arrives. Used by forwarding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType

from portal.gateway.http.bot_connection import BotConnection
from portal.gateway.http.bot_errors import BotTooSlow, ConnectionClosed, RequestIncomplete
from portal.gateway.http.bot_pool import BotPool
from portal.gateway.http.heads import build_request_head
from portal.gateway.http.response_head import ResponseHead
from portal.rules.proxy_headers import Headers

_WITHOUT_RESPONSE_BODY = "HEAD"


@dataclass(slots=True, kw_only=True)
class BotRequest:
    """A request to a bot.

    Attributes:
        address: `host:port` of the bot, from the database.
        method: the method.
        target: path and query as they were received.
        headers: all headers except those of the framing.
        idle_seconds: how long the bot may send nothing, and receive nothing of the body; None without a limit.
        body: the parts of the body; None without a body.
        length: length of the body in bytes; None if it is sent in chunks.
    """

    address: str
    method: str
    target: str
    headers: Headers
    idle_seconds: float | None
    body: AsyncIterator[bytes] | None = None
    length: int | None = None


class BotResponse(AbstractContextManager["BotResponse"]):
    """A response whose head has arrived. At the end of its `with` block, its connection is kept or closed.

    Args:
        pool: where the connection comes from.
        connection: the connection to the bot.
        head: status, headers and body.
        sending: the task that sends the body of the request.
    """

    def __init__(
        self, pool: BotPool, connection: BotConnection, head: ResponseHead, sending: asyncio.Task[None] | None
    ) -> None:
        self.head = head
        self.connection = connection
        self._pool = pool
        self._sending = sending

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Keep the connection if request and response are complete; otherwise close it."""
        is_sent = self._sending is None or self._sending.done()
        if is_sent and self.connection.is_reusable and self.head.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._pool.give_back(self.connection)
        else:
            _close(self._pool, self.connection, self._sending)


class BotClient(AbstractAsyncContextManager["BotClient"]):
    """Connections to bots. They are kept for a few seconds after a response. To be created in the event loop."""

    def __init__(self) -> None:
        self._pool = BotPool()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close all connections that no request uses."""
        self._pool.close_idle()

    async def ask(self, request: BotRequest) -> BotResponse:
        """Send a request, and return the response as soon as its head has arrived.

        Raises:
            BotUnreachable: there is no connection; the bot has not received the request.
            ConnectionClosed: the bot closed the connection before its response.
            BadResponse: the bot does not speak HTTP.
            BotTooSlow: the bot sent nothing for too long.
            RequestIncomplete: the body of the request has not arrived.
        """
        connection = await self._pool.take(request.address)
        sending = None
        try:
            sending = _send(connection, request)
            head = await connection.receive_head()
        except BaseException:
            _close(self._pool, connection, sending)
            raise
        return BotResponse(self._pool, connection, head, sending)


def _send(connection: BotConnection, request: BotRequest) -> asyncio.Task[None] | None:
    """Send the head, and return the task that sends the body, if there is one."""
    connection.begin_request(
        is_without_body=request.method == _WITHOUT_RESPONSE_BODY, idle_seconds=request.idle_seconds
    )
    headers = request.headers
    if request.length is not None:
        headers = [*headers, ("Content-Length", str(request.length))]
    elif request.body is not None:
        headers = [*headers, ("Transfer-Encoding", "chunked")]
    try:
        connection.write(build_request_head(request.method, request.target, headers))
    except ConnectionError as error:
        raise ConnectionClosed from error
    if request.body is None:
        connection.expect_response()
        return None
    return asyncio.create_task(_send_body(connection, request.body, request))


async def _send_body(connection: BotConnection, body: AsyncIterator[bytes], request: BotRequest) -> None:
    is_chunked = request.length is None
    try:
        async for part in body:
            connection.write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
            if connection.is_writing_paused:
                await _drain_in_time(connection, request.idle_seconds)
        if is_chunked:
            connection.write(b"0\r\n\r\n")
    except ConnectionError:
        # The bot closed the connection, perhaps after a response that refuses the body, or the client closed its own.
        connection.give_up_request()
    except BotTooSlow as error:
        connection.give_up_request(error)
    except Exception as error:  # noqa: BLE001 - the task that waits for the response handles it
        incomplete = RequestIncomplete()
        incomplete.__cause__ = error
        connection.give_up_request(incomplete)
    connection.expect_response()  # also after half a request, because the response may have begun


async def _drain_in_time(connection: BotConnection, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await connection.drain()
    except TimeoutError as error:
        raise BotTooSlow from error


def _close(pool: BotPool, connection: BotConnection, sending: asyncio.Task[None] | None) -> None:
    if sending is not None:
        sending.cancel()
    pool.close(connection)
