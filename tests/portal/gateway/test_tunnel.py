"""WebSockets through the gateway."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from aiohttp import WSMsgType, web

from portal.database import Database
from portal.gateway import limits
from portal.models import Bot
from tests.portal.gateway.test_hostile_bots import raw_bot
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, RunningGateway, read_all, sign_in
from tests.support.scene import Scene
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, open_socket

pytestmark = pytest.mark.requests


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    """Echo all messages; close with 4001 after the message `bye`."""
    socket = web.WebSocketResponse(max_msg_size=0, protocols=["chat"])
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data == "bye":
            await socket.close(code=4001, message=b"later")
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@pytest.fixture(autouse=True)
def echoing(bot: FakeBot) -> None:
    """Let the bot echo."""
    bot.handler = echo


def test_messages_pings_and_close_codes_pass(bob: Browser, bot: FakeBot) -> None:
    with open_socket(bob, headers={"Sec-WebSocket-Protocol": "chat"}) as socket:
        assert socket.status == 101
        assert "chat" in socket.handshake
        for kind, payload in ((TEXT, b"hello"), (BINARY, bytes(range(256)) * 300), (TEXT, b"")):
            socket.send(kind, payload)
            assert socket.receive() == (kind, payload)
        socket.send(PING, b"are you there")
        assert socket.receive() == (PONG, b"are you there")
        socket.send(TEXT, b"bye")
        assert socket.receive() == (CLOSE, (4001).to_bytes(2, "big") + b"later")
    assert bot.seen[0].values("x-platform-user-name") == ["Bob"]
    assert bot.seen[0].values("cookie") == []


def test_the_bot_learns_that_the_browser_is_gone(bob: Browser, bot: FakeBot) -> None:
    ended: list[int | None] = []

    async def listen(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        ended.append(socket.close_code)
        return socket

    bot.handler = listen
    with open_socket(bob) as socket:
        socket.send(CLOSE, (1000).to_bytes(2, "big"))
        assert socket.wait_for_close() == 1000
    with open_socket(bob) as socket:
        assert socket.status == 101
    deadline = time.monotonic() + 10
    while len(ended) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ended == [1000, 1006]


def test_a_slow_reader_slows_the_bot_down(bob: Browser, bot: FakeBot) -> None:
    sent = 0

    async def flood(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for _ in range(2000):
            await socket.send_bytes(bytes(64 * 1024))
            sent += 1
        return socket

    bot.handler = flood
    with open_socket(bob) as socket:
        time.sleep(1)
        before = sent
        assert before < 500, "the gateway reads on although the browser reads nothing"
        for _ in range(2000):
            assert socket.receive() == (BINARY, bytes(64 * 1024))
    assert sent == 2000


def test_a_bot_may_refuse_a_socket(bob: Browser, bot: FakeBot) -> None:
    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=409, text="not now")

    bot.handler = refuse
    with open_socket(bob) as socket:
        assert socket.status == 409


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://other.localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Cookie": "flotilla-gateway=unknown"}, 401),
        ({"Cookie": "a=1"}, 401),
        ({"Content-Length": "5"}, 400),
        ({"Transfer-Encoding": "chunked"}, 400),
    ],
)
def test_sockets_obey_the_same_rules(bob: Browser, bot: FakeBot, headers: dict[str, str], status: int) -> None:
    with open_socket(bob, headers=headers) as socket:
        assert socket.status == status
    assert bot.seen == []


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "tls/1.0", "TCP"])
def test_other_protocols_are_not_opened(bob: Browser, bot: FakeBot, upgrade: str) -> None:
    async def plain(request: web.BaseRequest) -> web.Response:
        return web.Response(text="plain")

    bot.handler = plain
    headers = {"Upgrade": upgrade, "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk"}
    with open_socket(bob, headers=headers) as socket:
        assert socket.status == 200
    assert bot.seen[0].values("upgrade") == bot.seen[0].values("http2-settings") == []


def test_idle_sockets_are_closed(bob: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BOT_IDLE_SECONDS", 0.5)
    with open_socket(bob) as socket:
        assert socket.wait_for_close() == 1001


def test_a_bot_that_switches_without_being_asked_is_refused(bob: Browser, bot: FakeBot) -> None:
    async def switch(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        await asyncio.sleep(0.1)
        request.transport.close()
        return web.Response()

    bot.handler = switch
    assert bob.read()[0] == 502


@pytest.mark.slow
@pytest.mark.parametrize("accept", ["", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"])
def test_a_status_alone_opens_no_tunnel(
    gateway: RunningGateway, database: Database, cast: Cast, scene: Scene, accept: str
) -> None:
    """A bot whose page repeats a status of the caller's choice still expects HTTP after it."""
    received = b""

    def switch_and_read_on(connection: socket.socket) -> None:
        nonlocal received
        handshake = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        connection.sendall(f"{handshake}{accept}\r\n".encode())
        received = read_all(connection)

    with raw_bot(switch_and_read_on) as address:
        with database.transaction() as session:
            session.get_one(Bot, scene.bots[0]).address = address
        bob = sign_in(gateway, database, cast.people["bob"], scene.bots[0])
        with open_socket(bob) as tunnel:
            tunnel.connection.sendall(b"GET /internal/members HTTP/1.1\r\nX-Platform-User-Id: alice\r\n\r\n")
            assert tunnel.status == 502
            read_all(tunnel.connection)
    assert received == b""
