"""Limits for clients: slow ones, idle ones, large headers; and the end of the process."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from aiohttp import web

from portal.gateway import limits
from tests.support.gateway import COOKIE, Browser, FakeBot, LoopThread, RunningGateway
from tests.support.websocket import open_socket

pytestmark = [pytest.mark.requests, pytest.mark.slow]


def head(browser: Browser, *lines: str, method: str = "GET") -> bytes:
    """Return the headers of a request."""
    usual = [f"Host: {browser.host}", f"Cookie: {COOKIE}={browser.token}", "Sec-Fetch-Site: same-origin"]
    return "\r\n".join([f"{method} /x HTTP/1.1", *usual, *lines, "", ""]).encode()


def test_large_headers_are_refused(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    large = [f"X-{number}: {'a' * 7000}" for number in range(5)]
    assert gateway.send(head(bob, *large)).startswith(b"HTTP/1.1 431 ")
    answer = gateway.send(head(bob, f"X: {'a' * 9000}"))
    assert re.match(rb"HTTP/1\.[01] 431 ", answer)
    assert b"delete the cookies" in answer
    assert b"aaa" not in answer
    assert bot.seen == []


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients take half a second for their next request."""
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 0.5)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"])
@pytest.mark.usefixtures("short_patience")
def test_a_client_that_never_sends_its_next_request_is_disconnected(sent: bytes, gateway: RunningGateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(sent)
        connection.settimeout(5)
        while connection.recv(1000):
            pass


def test_a_client_that_stops_sending_is_disconnected(
    bob: Browser, bot: FakeBot, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLIENT_IDLE_SECONDS", 0.5)
    with gateway.connect() as connection:
        connection.sendall(head(bob, "Content-Length: 10", method="POST") + b"half")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert len(bot.seen) == 1


def test_a_client_that_stops_reading_is_disconnected(
    bob: Browser, bot: FakeBot, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLIENT_IDLE_SECONDS", 0.5)
    ended = threading.Event()

    async def flood(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65536))
        finally:
            ended.set()

    bot.handler = flood
    with gateway.connect() as connection:
        connection.sendall(head(bob))
        assert ended.wait(10)


def test_a_client_that_does_not_read_the_end_is_disconnected(
    bob: Browser,
    bot: FakeBot,
    gateway: RunningGateway,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(limits, "CLIENT_IDLE_SECONDS", 0.5)
    sizes = range(4_000_000, 8_000_000, 60_000)  # for some of them, only the last part is too much for the buffers

    async def send(request: web.BaseRequest) -> web.Response:
        return web.Response(body=bytes(int(request.raw_path.removeprefix("/"))))

    bot.handler = send
    with ExitStack() as stack:
        for size in sizes:
            connection = stack.enter_context(gateway.connect())
            connection.sendall(head(bob).replace(b"/x", b"/%d" % size))
        began, ended = time.monotonic(), 0
        while ended < len(sizes):
            assert time.monotonic() - began < 30, "a request never ends"
            ended += capfd.readouterr().err.count(" portal.gateway.access_log: ")
            time.sleep(0.1)


def test_a_client_that_reads_no_page_of_the_gateway_is_disconnected(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such a client does not have to be signed in."""
    monkeypatch.setattr(limits, "CLIENT_IDLE_SECONDS", 0.5)
    request = f"GET /_gateway/assets/app.css HTTP/1.1\r\nHost: {gateway.host('unknown')}\r\n\r\n"
    with gateway.connect() as connection:
        connection.sendall(request.encode() * 1000)  # their responses are too much for the buffers
        began, log = time.monotonic(), ""
        while " GET asset bot=- user=- 499 " not in log:
            assert time.monotonic() - began < 10, "the response never ends"
            log += capfd.readouterr().err
            time.sleep(0.1)
        connection.settimeout(5)
        while connection.recv(65536):
            pass


def test_many_slow_clients_do_not_block_others(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    slow = [gateway.connect() for _ in range(300)]
    for number, connection in enumerate(slow):
        connection.sendall(head(bob)[: 10 + number % 50])
    began = time.monotonic()
    assert bob.read()[0] == 200
    assert time.monotonic() - began < 5
    for connection in slow:
        connection.close()


def test_the_access_log_names_no_paths_and_no_secrets(
    bob: Browser,
    bot: FakeBot,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    gateway: RunningGateway,
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert bob.read("/private/path?token=secret")[0] == 200
        assert bob.read("/private/%2f")[0] == 400
        gateway.send(b"GET /private secret HTTP/9.9\r\n\r\n", 1)
        bot.handler = None
    user = bot.seen[0].values("x-platform-user-id")[0]
    gateway.stop()
    written = capfd.readouterr().err
    lines = [line for line in written.splitlines() if " portal.gateway.access_log: " in line]
    assert re.match(r"\d{4}-\d\d-\d\dT\S+ INFO \d+ - portal\.gateway\.access_log: GET bot bot=", lines[0])
    assert re.search(rf" user={user} 200 \d+ bytes \d+\.\d ms$", lines[0])
    text = written + "\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    assert "private" not in text
    assert "secret" not in text
    assert bob.token not in text


def test_running_requests_may_end_when_the_process_is_stopped(
    bob: Browser, bot: FakeBot, gateway: RunningGateway, servers: LoopThread
) -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade"):
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            await websocket.receive()
            return websocket
        await asyncio.sleep(1)
        return web.Response(text="done")

    bot.handler = slow
    with gateway.connect() as connection, open_socket(bob) as websocket:
        connection.sendall(head(bob))
        time.sleep(0.3)
        stopping = threading.Thread(target=gateway.stop)
        stopping.start()
        assert websocket.wait_for_close() == 1001
        assert b"done" in connection.recv(1000)
        stopping.join()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", gateway.port), 1)
