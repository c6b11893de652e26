"""Forwarding of requests to bots and of their responses, in both directions at the same time, with constant memory.

Used by the handler of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from http import HTTPStatus
from typing import TypeVar

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, web
from multidict import CIMultiDict
from yarl import URL

from portal.gateway import limits
from portal.gateway.bot_connections import BotConnector
from portal.gateway.exchanges import GOING_AWAY, Exchange
from portal.gateway.requests import BrowserRequest, decode_headers
from portal.rules import proxy_headers
from portal.rules.proxy_headers import Headers

_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_EVENT_STREAM = "text/event-stream"

Result = TypeVar("Result")


class BotUnreachable(Exception):
    """The bot has not received the request, or the request can be repeated without harm.

    Args:
        was_sent: whether the bot may have received the request.
    """

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__("the bot does not answer")
        self.was_sent = was_sent


class BadResponse(Exception):
    """The bot has received the request, but its response cannot be forwarded."""


class BotTooSlow(Exception):
    """The bot has not answered in time."""


def open_client() -> ClientSession:
    """Return the client for bots. It follows no redirects, keeps no cookies, and reads no proxy settings."""
    client = ClientSession(
        connector=BotConnector(
            limit=0, limit_per_host=limits.CONNECTIONS_PER_BOT, keepalive_timeout=limits.BOT_KEEP_ALIVE_SECONDS
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        timeout=ClientTimeout(total=None, sock_connect=limits.CONNECT_SECONDS, sock_read=limits.BOT_IDLE_SECONDS),
        read_bufsize=limits.BUFFER_BYTES,
        max_line_size=limits.MAX_BOT_FIELD_BYTES,
        max_field_size=limits.MAX_BOT_FIELD_BYTES,
    )
    # The handler repeats requests itself, after reading the row of the bot again.
    client._retry_connection = False  # noqa: SLF001 - aiohttp has no public way to switch it off
    return client


def build_url(address: str, target: str) -> URL:
    """Return the URL of a path at a bot. Path and query stay as they are.

    Args:
        address: `host:port` of the bot, from the database.
        target: path and query as they were received.
    """
    host, _, port = address.rpartition(":")
    # As a path, the target stays as it is; a query that is empty would lose its question mark.
    return URL.build(scheme="http", host=host.strip("[]"), port=int(port), path=target, encoded=True)


async def forward(
    client: ClientSession, browser: BrowserRequest, exchange: Exchange, headers: Headers, outer: str
) -> web.StreamResponse:
    """Forward a request to its bot, and the response to the browser.

    Args:
        client: the client for bots.
        browser: the request.
        exchange: the running request, whose visit has an address.
        headers: the headers for the bot.
        outer: URL of the bot for browsers.

    Raises:
        BotUnreachable, BadResponse, BotTooSlow: there is no response, and nothing was sent to the browser.
    """
    async with await _ask(client, browser, exchange.visit.address or "", headers) as answer:
        return await pass_on(answer, browser, exchange, outer)


async def pass_on(
    answer: ClientResponse, browser: BrowserRequest, exchange: Exchange, outer: str
) -> web.StreamResponse:
    """Send the response of a bot to the browser; see `forward`."""
    if answer.status < HTTPStatus.OK:
        raise BadResponse("the bot switched the protocol")
    response = _build_response(answer, exchange.visit.address or "", outer)
    exchange.is_stream = response.headers.get("content-type", "").lower().startswith(_EVENT_STREAM)
    await response.prepare(browser.request)
    try:
        await _copy_body(answer, response)
    except (aiohttp.ClientError, TimeoutError) as error:
        # The browser has to notice that the response is incomplete.
        exchange.abort(GOING_AWAY)
        raise ConnectionResetError("the response of the bot broke off") from error
    return response


async def _ask(client: ClientSession, browser: BrowserRequest, inner: str, headers: Headers) -> ClientResponse:
    body = _read_body(browser) if browser.has_body else None
    sent = CIMultiDict(headers)
    if browser.content_length:
        sent["Content-Length"] = str(browser.content_length)
    url = build_url(inner, browser.target)
    try:
        return await client.request(browser.method, url, headers=sent, data=body, allow_redirects=False)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise BotUnreachable(was_sent=False) from error
    except TimeoutError as error:
        raise BotTooSlow from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        if browser.method in _REPEATABLE_METHODS and not browser.has_body:
            raise BotUnreachable(was_sent=True) from error
        raise BadResponse("the bot closed the connection") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise BadResponse("the bot does not speak HTTP") from error


async def _read_body(browser: BrowserRequest) -> AsyncIterator[bytes]:
    if browser.expects_continue:
        # Not before the bot was reached: until then the client can be refused without sending its body.
        await browser.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        browser.request.writer.output_size = 0
    content = browser.request.content
    while chunk := await _in_time(content.readany()):
        yield chunk


async def _copy_body(answer: ClientResponse, response: web.StreamResponse) -> None:
    async for chunk in answer.content.iter_any():
        await _in_time(response.write(chunk))


async def _in_time(waiting: Awaitable[Result]) -> Result:
    async with asyncio.timeout(limits.CLIENT_IDLE_SECONDS):
        return await waiting


class _ForwardedResponse(web.StreamResponse):
    """A response whose headers are those of the bot; aiohttp would add `Server` and a `Content-Type`."""

    async def _prepare_headers(self) -> None:
        has_type, has_server = "Content-Type" in self.headers, "Server" in self.headers
        await super()._prepare_headers()
        if not has_type:
            self.headers.popall("Content-Type", None)
        if not has_server:
            self.headers.popall("Server", None)


def _build_response(answer: ClientResponse, inner: str, outer: str) -> web.StreamResponse:
    raw = decode_headers(answer.raw_headers)
    headers = CIMultiDict(proxy_headers.select_response_headers(raw, inner=inner, outer=outer))
    lengths = answer.headers.getall("Content-Length", [])
    if "Transfer-Encoding" not in answer.headers and len(set(lengths)) == 1:
        headers["Content-Length"] = lengths[0]
    # Besides the bot's own policies: pages of other bots, which are the same site, must not show it in a frame.
    headers.add("Content-Security-Policy", "frame-ancestors 'self'")
    return _ForwardedResponse(status=answer.status, headers=headers)
