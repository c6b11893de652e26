"""Forwarding of requests to bots and of their responses, in both directions at the same time, with constant memory.

Used by the handler of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from http import HTTPStatus
from typing import TypeVar, cast

import aiohttp
from aiohttp import HttpVersion10, StreamReader, web
from aiohttp.helpers import rfc822_formatted_time, should_remove_content_length
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from portal.gateway import limits
from portal.gateway.bot_client import (
    BadResponse,
    BotClient,
    BotRequest,
    BotResponse,
    BotUnreachable,
    ConnectionClosed,
)
from portal.gateway.exchanges import GOING_AWAY, Exchange
from portal.gateway.requests import BrowserRequest, decode_headers
from portal.rules import proxy_headers
from portal.rules.proxy_headers import Headers

_EVENT_STREAM = "text/event-stream"

Result = TypeVar("Result")


async def forward(
    client: BotClient, browser: BrowserRequest, exchange: Exchange, headers: Headers, outer: str
) -> web.StreamResponse:
    """Forward a request to its bot, and the response to the browser.

    Args:
        client: the client for bots.
        browser: the request.
        exchange: the running request, whose visit has an address.
        headers: the headers for the bot.
        outer: URL of the bot for browsers.

    Raises:
        BotUnreachable, BadResponse, BotTooSlow, RequestIncomplete: there is no response, and nothing was sent to the
            browser.
    """
    with await _ask(client, browser, exchange.address, headers) as answer:
        return await pass_on(answer, browser, exchange, outer)


async def pass_on(answer: BotResponse, browser: BrowserRequest, exchange: Exchange, outer: str) -> web.StreamResponse:
    """Send the response of a bot to the browser; see `forward`."""
    if answer.status < HTTPStatus.OK:
        raise BadResponse("the bot switched the protocol")
    response = _build_response(answer, exchange.address, outer)
    exchange.is_stream = response.headers.get("content-type", "").lower().startswith(_EVENT_STREAM)
    await response.prepare(browser.request)
    try:
        await _copy_body(answer.content, response, browser)
    except (aiohttp.ClientError, TimeoutError) as error:
        # The browser has to notice that the response is incomplete.
        exchange.abort(GOING_AWAY)
        raise ConnectionResetError("the response of the bot broke off") from error
    return response


async def _ask(client: BotClient, browser: BrowserRequest, inner: str, headers: Headers) -> BotResponse:
    request = BotRequest(
        address=inner,
        method=browser.method,
        target=browser.target,
        headers=headers,
        idle_seconds=limits.BOT_IDLE_SECONDS,
        body=_read_body(browser) if browser.has_body else None,
        length=0 if not browser.has_body and not browser.is_safe else browser.content_length,
    )
    try:
        return await client.ask(request)
    except ConnectionClosed as error:
        if browser.is_safe and not browser.has_body:
            raise BotUnreachable(was_sent=True) from error
        raise BadResponse("the bot closed the connection") from error


async def _read_body(browser: BrowserRequest) -> AsyncIterator[bytes]:
    if browser.expects_continue:
        # Not before the bot was reached: until then the client can be refused without sending its body.
        await browser.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        browser.request.writer.output_size = 0
    content = browser.request.content
    while chunk := await _in_time(content.readany()):
        yield chunk


async def _copy_body(content: StreamReader, response: web.StreamResponse, browser: BrowserRequest) -> None:
    chunk = content.read_nowait()
    if not chunk:
        browser.request.writer.send_headers()  # the first part of the body may come much later
    while not content.at_eof():
        if chunk:
            await response.write(chunk)
        chunk = await content.readany()
    await _in_time(response.write_eof(chunk))


async def _in_time(waiting: Awaitable[Result]) -> Result:
    async with asyncio.timeout(limits.CLIENT_IDLE_SECONDS):
        return await waiting


class _ForwardedResponse(web.StreamResponse):
    """A response with the headers of the bot. aiohttp would add `Server` and `Content-Type`."""

    _send_headers_immediately = False
    """Headers are sent together with the first part of the body."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a part of the body, and wait while the browser accepts no more."""
        writer = cast("StreamWriter", self._payload_writer)
        await writer.write(data, drain=False)
        if writer.protocol.writing_paused:
            await _in_time(writer.drain())

    async def _prepare_headers(self) -> None:
        request, writer = cast("web.BaseRequest", self._req), cast("StreamWriter", self._payload_writer)
        headers, is_http_10 = self.headers, request.version == HttpVersion10
        keep_alive = request.keep_alive if self.keep_alive is None else self.keep_alive
        if self._must_be_empty_body:
            if should_remove_content_length(request.method, self.status):
                headers.popall("Content-Length", None)
        elif "Content-Length" in headers:
            writer.length = int(headers["Content-Length"])
        elif is_http_10:
            keep_alive = False
        else:
            writer.enable_chunking()
            headers["Transfer-Encoding"] = "chunked"
        if "Date" not in headers:
            headers["Date"] = rfc822_formatted_time()
        if keep_alive is is_http_10:
            headers["Connection"] = "keep-alive" if keep_alive else "close"
        self._keep_alive = keep_alive


def _build_response(answer: BotResponse, inner: str, outer: str) -> web.StreamResponse:
    raw = decode_headers(answer.raw_headers)
    headers = CIMultiDict(proxy_headers.select_response_headers(raw, inner=inner, outer=outer))
    lengths = answer.headers.getall("Content-Length", [])
    if "Transfer-Encoding" not in answer.headers and len(set(lengths)) == 1:
        headers["Content-Length"] = lengths[0]
    # Besides the bot's own policies: pages of other bots, which are the same site, must not show it in a frame.
    headers.add("Content-Security-Policy", "frame-ancestors 'self'")
    return _ForwardedResponse(status=answer.status, headers=headers)
