"""Forwarding of requests to bots and of their responses, in both directions at the same time, with constant memory.

Used by the handler of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

from portal.gateway import limits
from portal.gateway.exchanges import GOING_AWAY, Exchange
from portal.gateway.http.bot_client import BotClient, BotRequest, BotResponse
from portal.gateway.http.bot_errors import BadResponse, BotTooSlow, BotUnreachable, ConnectionClosed
from portal.gateway.http.heads import read_date
from portal.gateway.http.own_responses import Sent
from portal.gateway.http.requests import BrowserRequest
from portal.gateway.http.response_stream import ResponseStream
from portal.rules import proxy_headers
from portal.rules.proxy_headers import Headers

_SWITCHING = HTTPStatus.SWITCHING_PROTOCOLS.value
_EVENT_STREAM = "text/event-stream"
_FRAMES_OF_OWN_PAGES = ("Content-Security-Policy", "frame-ancestors 'self'")
"""Besides the bot's own policies: pages of other bots, which are the same site, must not show it in a frame."""


async def forward(
    client: BotClient, browser: BrowserRequest, exchange: Exchange, headers: Headers, outer: str
) -> Sent:
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
    try:
        answer = await client.ask(_build_request(browser, exchange.address, headers))
    except ConnectionClosed as error:
        if browser.is_safe and not browser.has_body:
            raise BotUnreachable(was_sent=True) from error
        raise BadResponse("the bot closed the connection") from error
    with answer:
        return await pass_on(answer, browser, exchange, outer)


async def pass_on(answer: BotResponse, browser: BrowserRequest, exchange: Exchange, outer: str) -> Sent:
    """Send the response of a bot to the browser; see `forward`."""
    head, body = answer.head, answer.head.body
    if head.status == _SWITCHING:
        raise BadResponse("the bot switched the protocol")
    exchange.is_stream = head.fields.get("content-type", "").lower().startswith(_EVENT_STREAM)
    headers = proxy_headers.select_response_headers(head.headers, inner=exchange.address, outer=outer)
    headers.append(_FRAMES_OF_OWN_PAGES)
    if "date" not in head.fields:
        headers.append(("Date", read_date()))
    stream = ResponseStream(browser, head.status, headers, head.length)
    try:
        await stream.write(body.take())  # the first part of the body may come much later than the head
        while not body.is_used_up and (part := await body.read()):
            await stream.write(part)
    except (BadResponse, BotTooSlow, ConnectionClosed) as error:
        # The browser has to notice that the response is incomplete.
        exchange.abort(GOING_AWAY)
        raise ConnectionResetError("the response of the bot broke off") from error
    return await stream.end()


def _build_request(browser: BrowserRequest, inner: str, headers: Headers) -> BotRequest:
    has_body = browser.has_body
    return BotRequest(
        address=inner,
        method=browser.method,
        target=browser.target,
        headers=headers,
        idle_seconds=limits.BOT_IDLE_SECONDS,
        body=_read_body(browser) if has_body else None,
        length=0 if not has_body and not browser.is_safe else browser.content_length,
    )


async def _read_body(browser: BrowserRequest) -> AsyncIterator[bytes]:
    if browser.is_waiting_to_send:
        # Not before the bot was reached: until then the client can be refused without sending its body.
        browser.permit_body()
    while part := browser.body.take() or await _read_in_time(browser):
        yield part


async def _read_in_time(browser: BrowserRequest) -> bytes:
    async with asyncio.timeout(limits.CLIENT_IDLE_SECONDS):
        return await browser.body.read()
