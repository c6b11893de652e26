"""The constant load on a gateway: what it counts as a failure, and from when it measures a wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from aiohttp import web

from demo.bench.gateway.load import constant_load
from demo.bench.gateway.load_generator import Report
from demo.bench.gateway.visitors import Visitor
from tests.support.gateway import BotHandler, FakeBot, LoopThread, running_bot

pytestmark = [pytest.mark.processes, pytest.mark.slow]

RATE = 100


@pytest.fixture(scope="module")
def servers() -> Iterator[LoopThread]:
    """Return the thread in which servers run."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def server(servers: LoopThread) -> Iterator[FakeBot]:
    """Return a server in the place of the gateway."""
    with running_bot(servers) as server:
        yield server


def run_load(server: FakeBot, handler: BotHandler, sockets: int = 0) -> Report:
    """Put load on a server for a second."""
    server.handler = handler
    with constant_load(server.port, [Visitor("bot.example", "a token")], rate=RATE, sockets=sockets) as load:
        time.sleep(1)
    return load.report


def answer(request: web.BaseRequest) -> web.Response:
    """Answer as the reference bot does."""
    return web.Response(status=303 if request.method == "POST" else 200)


def test_all_requests_are_counted_and_arrive_at_their_rate(server: FakeBot) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        return answer(request)

    report = run_load(server, handle)
    assert report.requests == len(server.seen)
    assert report.requests >= 0.8 * RATE
    assert report.notes == sum(request.method == "POST" for request in server.seen) > 0
    assert report.failed == {}


def test_other_responses_and_closed_connections_are_failures(server: FakeBot) -> None:
    async def handle(request: web.BaseRequest) -> web.Response:
        number = len(server.seen)
        if number % 10 == 0 and request.transport is not None:
            request.transport.abort()
        return web.Response(status=503) if number % 10 == 5 else answer(request)

    report = run_load(server, handle)
    assert report.failed["503"] > 0
    assert report.failed.total() > report.failed["503"]
    assert report.failed.total() == len(server.seen) // 10 + (len(server.seen) + 5) // 10


def test_requests_start_while_earlier_ones_wait(server: FakeBot) -> None:
    released = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.Response:
        if len(server.seen) == RATE // 2:
            released.set()
        await released.wait()
        return answer(request)

    report = run_load(server, handle)
    assert report.failed == {}
    assert report.longest_wait >= 0.4


def test_sockets_are_opened_again(server: FakeBot) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if "Upgrade" not in request.headers:
            return answer(request)
        if len(server.seen) % 7 == 0:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(await socket.receive_str())
        await socket.close()
        return socket

    report = run_load(server, handle, sockets=3)
    assert report.sockets > 3
    assert report.sockets_failed.keys() == {"503"}
    assert report.longest_reconnect > 0
