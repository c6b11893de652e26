"""Connections of browsers: several requests on one of them, and what follows a request."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from portal.gateway import limits
from portal.gateway.http.bodies import Body
from tests.support.gateway import COOKIE, Browser, FakeBot, RunningGateway, read_all

pytestmark = pytest.mark.requests


def build(browser: Browser, line: str, *lines: str, body: bytes = b"") -> bytes:
    """Return a request of a browser."""
    session = (f"Host: {browser.host}", f"Cookie: {COOKIE}={browser.token}", "Sec-Fetch-Site: same-origin")
    return "\r\n".join((f"{line} HTTP/1.1", *session, *lines, "", "")).encode() + body


def last(browser: Browser) -> bytes:
    """Return a request after which the gateway closes the connection."""
    return build(browser, "GET /last", "Connection: close")


@pytest.mark.parametrize("is_chunked", [True, False])
def test_another_request_follows_a_large_body(
    bob: Browser, bot: FakeBot, gateway: RunningGateway, is_chunked: bool
) -> None:
    body = bytes(500_000)
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\nX-Trailer: a\r\n\r\n" % (len(body), body) if is_chunked else body
    received = gateway.send(build(bob, "POST /large", framing, body=sent) + last(bob))
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert [seen.target for seen in bot.seen] == ["/large", "/last"]
    assert bot.seen[1].values("x-trailer") == []


def test_the_body_of_a_request_that_no_bot_gets_is_no_request(
    bob: Browser, bot: FakeBot, gateway: RunningGateway
) -> None:
    body = build(bob, "GET /hidden") * 2000
    received = gateway.send(build(bob, "POST /internal", f"Content-Length: {len(body)}", body=body) + last(bob))
    assert received.startswith(b"HTTP/1.1 404 ")
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert [seen.target for seen in bot.seen] == ["/last"]


def test_many_requests_at_once_are_answered_in_their_order(
    bob: Browser, bot: FakeBot, gateway: RunningGateway
) -> None:
    count = 10 * limits.MAX_PIPELINED
    received = gateway.send(b"".join(build(bob, f"GET /{number}") for number in range(count)) + last(bob))
    assert received.count(b"HTTP/1.1 200 OK") == count + 1
    assert [seen.target for seen in bot.seen] == [*(f"/{number}" for number in range(count)), "/last"]


def test_a_request_may_arrive_byte_by_byte(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    request = build(bob, "POST /slow", "Content-Length: 4", "Connection: close", "X-Empty:", body=b"body")
    with gateway.connect() as connection:
        for number in range(len(request)):
            connection.sendall(request[number : number + 1])
            time.sleep(0.0005)
        assert b"POST /slow 4" in read_all(connection)
    assert len(bot.seen) == 1


def test_what_precedes_malformed_bytes_is_answered(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    received = gateway.send(build(bob, "GET /good") + b"\x00secret\r\n\r\n" + last(bob))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b"HTTP/1.1 400 ") == 1
    assert b"secret" not in received
    assert [seen.target for seen in bot.seen] == ["/good"]


@pytest.mark.parametrize(
    ("protocol", "nominated"), [("h2c", "Upgrade"), ("websocket", "Upgrade"), ("websocket", "Upgrade\xa0")]
)
def test_nothing_after_a_request_for_another_protocol_is_a_request(
    bob: Browser, bot: FakeBot, gateway: RunningGateway, protocol: str, nominated: str
) -> None:
    upgrade = build(bob, "GET /first", f"Upgrade: {protocol}", f"Connection: {nominated}")
    received = gateway.send(upgrade + build(bob, "GET /hidden") + last(bob))
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in received
    assert [seen.target for seen in bot.seen] == ["/first"]


def test_a_request_for_another_protocol_has_no_body(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    upgrade = build(bob, "POST /", "Upgrade: h2c", "Connection: Upgrade", "Content-Length: 4", body=b"body")
    assert gateway.send(upgrade).startswith(b"HTTP/1.1 400 ")
    assert bot.seen == []


def test_a_client_of_an_old_version_gets_no_interim_response(
    bob: Browser, bot: FakeBot, gateway: RunningGateway
) -> None:
    request = build(bob, "POST /", "Content-Length: 4", "Expect: 100-continue", body=b"body")
    received = gateway.send(request.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"POST / 4")


def test_an_error_in_the_middle_of_a_response_adds_nothing_to_it(
    bob: Browser, bot: FakeBot, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_body: Body) -> bytes:
        raise RuntimeError("a fault of the gateway")

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first part")
        await asyncio.sleep(0.5)
        return response

    bot.handler = stream
    monkeypatch.setattr(Body, "read", fail)
    received = gateway.send(build(bob, "GET /"))
    assert received.count(b"HTTP/1.1 ") == 1
    assert not received.endswith(b"0\r\n\r\n")
