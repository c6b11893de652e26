"""The HTTP client for bots: sends a request, and its body while the response already arrives. Used by forwarding.

It uses aiohttp's pool of connections and aiohttp's parser. aiohttp's own client takes several times as long for a
request, because of redirects, cookies, proxies and decoding, which the gateway does not need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType

import aiohttp
from aiohttp import ClientRequest, ClientTimeout, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from multidict import CIMultiDict
from yarl import URL

from portal.gateway import limits
from portal.gateway.bot_connections import BotConnector
from portal.rules.proxy_headers import Headers

_WITHOUT_RESPONSE_BODY = "HEAD"
_MAX_ADDRESSES = 10_000
_LINGER_SECONDS = 1.0


class BotUnreachable(Exception):
    """The bot has not received the request, or the request can be repeated without harm.

    Args:
        was_sent: whether the bot may have received the request.
    """

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__("the bot does not answer")
        self.was_sent = was_sent


class ConnectionClosed(Exception):
    """The bot may have received the request, and closed the connection before its response."""


class RequestIncomplete(Exception):
    """The client has not sent the whole body, and the bot has not answered."""


class BadResponse(Exception):
    """The bot has received the request, but its response cannot be forwarded."""


class BotTooSlow(Exception):
    """The bot has not answered in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BotRequest:
    """A request to a bot.

    Attributes:
        address: `host:port` of the bot, from the database.
        method: the method.
        target: path and query as they were received.
        headers: all headers except those of the framing.
        idle_seconds: how long the bot may send nothing; None without a limit.
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
    """A response whose headers have arrived. At the end of its `with` block, its connection is kept or closed.

    Args:
        connection: the connection to the bot.
        protocol: the protocol of the connection.
        message: status and headers.
        content: the body.
        sending: the task that sends the body of the request.
    """

    def __init__(
        self,
        connection: Connection,
        protocol: ResponseHandler,
        message: RawResponseMessage,
        content: StreamReader,
        sending: asyncio.Task[None] | None,
    ) -> None:
        self.status = message.code
        self.headers = message.headers
        self.raw_headers = message.raw_headers
        self.content = content
        self.protocol = protocol
        self._connection = connection
        self._sending = sending

    def close(self) -> None:
        """Close the connection. The bot has a second to read what was already sent."""
        _close(self._connection, self._sending)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Keep the connection if request and response are complete; otherwise close it."""
        is_sent = self._sending is None or self._sending.done()
        if is_sent and self.content.is_eof() and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._connection.release()
        else:
            self.close()


class BotClient(AbstractAsyncContextManager["BotClient"]):
    """Connections to bots. They are kept for a few seconds after a response. To be created in the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._initiators: dict[str, ClientRequest] = {}
        # Includes the time until another request frees one of the connections.
        self._timeout = ClientTimeout(total=None, connect=limits.CONNECT_SECONDS)
        self._connector = BotConnector(
            limit=0, limit_per_host=limits.CONNECTIONS_PER_BOT, keepalive_timeout=limits.BOT_KEEP_ALIVE_SECONDS
        )

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._connector.close()

    async def ask(self, request: BotRequest) -> BotResponse:
        """Send a request, and return the response as soon as its headers have arrived.

        Raises:
            BotUnreachable: there is no connection; the bot has not received the request.
            ConnectionClosed: the bot closed the connection before its response.
            BadResponse: the bot does not speak HTTP.
            BotTooSlow: the bot sent nothing for too long.
            RequestIncomplete: the body of the request has not arrived.
        """
        connection, protocol = await self._connect(request.address)
        sending = None
        try:
            sending = await self._send(protocol, request)
            message, content = await _receive_head(protocol)
        except BaseException:
            _close(connection, sending)
            raise
        return BotResponse(connection, protocol, message, content, sending)

    async def _connect(self, address: str) -> tuple[Connection, ResponseHandler]:
        try:
            connection = await self._connector.connect(self._find_initiator(address), [], self._timeout)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise BotUnreachable(was_sent=False) from error
        if connection.protocol is None:
            raise BotUnreachable(was_sent=False)
        return connection, connection.protocol

    def _find_initiator(self, address: str) -> ClientRequest:
        """Return what tells aiohttp's pool to which address a connection leads."""
        if address not in self._initiators:
            if len(self._initiators) >= _MAX_ADDRESSES:
                self._initiators.clear()
            host, _, port = address.rpartition(":")
            url = URL.build(scheme="http", host=host.strip("[]"), port=int(port))
            self._initiators[address] = ClientRequest("GET", url, loop=self._loop)
        return self._initiators[address]

    async def _send(self, protocol: ResponseHandler, request: BotRequest) -> asyncio.Task[None] | None:
        """Send the headers, and return the task that sends the body, if there is one."""
        protocol.set_response_params(
            skip_payload=request.method == _WITHOUT_RESPONSE_BODY,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=request.idle_seconds,
            read_bufsize=limits.BUFFER_BYTES,
            max_line_size=limits.MAX_BOT_FIELD_BYTES,
            max_field_size=limits.MAX_BOT_FIELD_BYTES,
        )
        writer = StreamWriter(protocol, self._loop)
        headers = CIMultiDict(request.headers)
        if request.length is not None:
            headers["Content-Length"] = str(request.length)
        elif request.body is not None:
            headers["Transfer-Encoding"] = "chunked"
            writer.enable_chunking()
        try:
            await writer.write_headers(f"{request.method} {request.target} HTTP/1.1", headers)
            writer.send_headers()
        except OSError as error:
            raise ConnectionClosed from error
        if request.body is None:
            protocol.start_timeout()
            return None
        return self._loop.create_task(_send_body(writer, protocol, request.body))


def _close(connection: Connection, sending: asyncio.Task[None] | None) -> None:
    if sending is not None:
        sending.cancel()
    transport = connection.transport
    connection.close()
    if transport is not None:
        # A bot that reads nothing would otherwise keep the connection open.
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, transport.abort)


async def _send_body(writer: StreamWriter, protocol: ResponseHandler, body: AsyncIterator[bytes]) -> None:
    try:
        async for chunk in body:
            await writer.write(chunk)
        await writer.write_eof()
    except ConnectionError:
        # The bot closed the connection, perhaps after a response that refuses the body, or the client closed its own.
        # The bot would take the next request for the rest of the body.
        protocol.force_close()
        return
    except Exception as error:  # noqa: BLE001 - the task that waits for the response handles it
        protocol.set_exception(RequestIncomplete(), error)  # also stops the timeout, but the response may have begun
    protocol.start_timeout()


async def _receive_head(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    try:
        while True:
            message, content = await protocol.read()
            if message.code >= HTTPStatus.OK or message.code == HTTPStatus.SWITCHING_PROTOCOLS:
                return message, content
    except TimeoutError as error:
        raise BotTooSlow from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        raise ConnectionClosed from error
    except (aiohttp.ClientError, HttpProcessingError, ValueError) as error:
        raise BadResponse("the bot does not speak HTTP") from error
