"""Bots and clients that send without end: the memory of the gateway's process stays small, and other bots answer."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from demo.processes import free_port
from portal.database import Database
from portal.models import Bot
from portal.settings import Settings
from tests.daemon.processes import Process, running, wait_until
from tests.portal.gateway.test_hostile_bots import OK, SWITCHED, raw_bot
from tests.support.cast import Cast
from tests.support.gateway import COOKIE, DOMAIN, Browser, FakeBot, GatewayAddress, sign_in
from tests.support.scene import Scene
from tests.support.websocket import KEY

pytestmark = [pytest.mark.requests, pytest.mark.processes, pytest.mark.slow]

Answer = Callable[[socket.socket], None]

FLOOD_SECONDS = 1.0
CONNECTIONS = 8
MAX_GROWTH_MB = 40
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HANDSHAKE = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"


def hang(connection: socket.socket) -> None:
    """Neither read nor answer until the gateway closes the connection."""
    while True:
        time.sleep(0.2)
        if connection.recv(1, socket.MSG_PEEK) == b"":
            return


@dataclass
class Arena:
    """The gateway as a process, and Bob's browser at a bot that answers and at one that a test directs."""

    process: Process
    gateway: GatewayAddress
    bob: Browser
    hostile: Browser
    answer: Answer = hang

    def head(self, line: str, *lines: str) -> bytes:
        """Return the headers of a request to the hostile bot, without the empty line at their end."""
        session = (
            f"Host: {self.hostile.host}",
            f"Cookie: {COOKIE}={self.hostile.token}",
            "Sec-Fetch-Site: same-origin",
        )
        return "".join(f"{line}\r\n" for line in (f"{line} HTTP/1.1", *session, *lines)).encode()

    def read_memory_mb(self) -> float:
        """Return how much memory the gateway uses, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def read_status(self) -> int:
        """Return the status of Bob's bot.

        The gateway ends a request whose right it could not confirm for some seconds. On a machine with no free
        processor this may happen once, but not twice running.
        """
        with suppress(RemoteDisconnected):
            return self.bob.read()[0]
        return self.bob.read()[0]

    def find_harm(self, name: str, flood: Callable[[ExitStack], None]) -> list[str]:
        """Return what is wrong with the gateway during a flood."""
        assert self.bob.read()[0] == 200
        before, peak, statuses = self.read_memory_mb(), 0.0, set()
        with ExitStack() as stack:
            flood(stack)
            ends_at = time.monotonic() + FLOOD_SECONDS
            while time.monotonic() < ends_at:
                statuses.add(self.read_status())
                peak = max(peak, self.read_memory_mb())
        harm = [f"{name}: {peak - before:.0f} MB more"] if peak - before > MAX_GROWTH_MB else []
        return harm if statuses == {200} else [*harm, f"{name}: statuses {statuses}"]


@pytest.fixture
def arena(  # noqa: PLR0917 - fixtures come by name
    settings: Settings,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    cast: Cast,
    scene: Scene,
    bot: FakeBot,
) -> Iterator[Arena]:
    """Run the gateway as a process, and a hostile bot."""
    port = free_port()
    gateway = GatewayAddress(port, f"{DOMAIN}:{port}")
    values = {"REDIS_URL": redis_url, "BASE_URL": "http://127.0.0.1:8000", "BOTS_DOMAIN": gateway.domain}
    for name, value in {**values, "GATEWAY_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "gateway.log"

    def answer(connection: socket.socket) -> None:
        found.answer(connection)

    with (
        raw_bot(answer) as address,
        running("daemon.cli", "gateway", log=log) as process,
    ):
        with database.transaction() as session:
            session.get_one(Bot, scene.bots[1]).address = address
        wait_until(lambda: listens(port), "the gateway listens")
        people = [sign_in(gateway, database, cast.people["bob"], bot_id) for bot_id in scene.bots[:2]]
        found = Arena(process, gateway, people[0], people[1])
        yield found
    assert "Traceback" not in log.read_text()


def listens(port: int) -> bool:
    """Return whether a server listens."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def repeat(start: bytes, part: bytes) -> Answer:
    """Return an answer that sends a part without end."""
    block = part * (65536 // len(part) + 1)

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(block)

    return answer


BOTS = {
    "a body": repeat(OK + b"Content-Length: 99999999999\r\n\r\n", b"a"),
    "chunks of one byte": repeat(CHUNKED, b"1\r\na\r\n"),
    "an extension of a chunk": repeat(CHUNKED + b"5;", b"a"),
    "trailers": repeat(CHUNKED + b"0\r\n", b"X-Trailer: a\r\n"),
    "one trailer": repeat(CHUNKED + b"0\r\nX-Trailer: ", b"a"),
    "early hints": repeat(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "continues": repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers": repeat(OK, b"X-Header: a\r\n"),
    "one header": repeat(OK + b"X-Header: ", b"a"),
    "responses": repeat(b"", OK + b"Content-Length: 0\r\n\r\n"),
    "a status line": repeat(b"HTTP/1.1 200 ", b"a"),
    "empty lines": repeat(b"", b"\r\n"),
}


def test_bots_that_send_without_end(arena: Arena) -> None:
    def flood(stack: ExitStack) -> None:
        for _ in range(CONNECTIONS):
            stack.enter_context(arena.gateway.connect()).sendall(arena.head("GET /") + b"\r\n")

    harm = []
    for name, arena.answer in BOTS.items():
        harm += arena.find_harm(name, flood)
    assert harm == []


SOCKETS = {"empty frames": b"\x82\x00", "frames": b"\x82\x7e\xff\xff" + bytes(65535), "noise": bytes(range(256))}


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "not read"])
def test_sockets_of_bots_that_send_without_end(arena: Arena, is_read: bool) -> None:
    def flood(stack: ExitStack) -> None:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(arena.gateway.connect())
            connection.sendall(arena.head("GET /ws") + HANDSHAKE.encode() + b"\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
            if is_read:
                run_until_closed(stack, connection, lambda connection: connection.recv(65536))

    harm = []
    for name, part in SOCKETS.items():
        arena.answer = repeat(SWITCHED + b"\r\n", part)
        harm += arena.find_harm(name, flood)
    assert harm == []


CLIENTS: dict[str, tuple[tuple[str, ...], bytes, bytes]] = {
    "a body": (("POST /", "Content-Length: 99999999999"), b"\r\n", b"a"),
    "chunks": (("POST /", "Transfer-Encoding: chunked"), b"\r\n", b"4\r\naaaa\r\n"),
    "chunks of one byte": (("POST /", "Transfer-Encoding: chunked"), b"\r\n", b"1\r\na\r\n"),
    "an extension of a chunk": (("POST /", "Transfer-Encoding: chunked"), b"\r\n5;", b"a"),
    "trailers": (("POST /", "Transfer-Encoding: chunked"), b"\r\n0\r\n", b"X-Trailer: a\r\n"),
    "one trailer": (("POST /", "Transfer-Encoding: chunked"), b"\r\n0\r\nX-Trailer: ", b"a"),
    "headers": (("GET /",), b"", b"X-Header: a\r\n"),
    "one header": (("GET /",), b"X-Header: ", b"a"),
    "a path": (("GET /",), b"\r\nGET /", b"a"),
    "requests": (("GET /",), b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "empty lines": (("GET /",), b"\r\n", b"\r\n"),
    "frames": (("GET /ws", *HANDSHAKE.splitlines()), b"\r\n", b"\x82\x80aaaa"),
}


def test_clients_that_send_without_end(arena: Arena) -> None:
    harm = []
    for name, (lines, start, part) in CLIENTS.items():
        head, block = arena.head(*lines) + start, part * (65536 // len(part) + 1)

        def flood(stack: ExitStack, head: bytes = head, block: bytes = block) -> None:
            for _ in range(CONNECTIONS):
                connection = stack.enter_context(arena.gateway.connect())
                connection.sendall(head)
                run_until_closed(stack, connection, lambda connection: connection.sendall(block))

        harm += arena.find_harm(name, flood)
    assert harm == []


def run_until_closed(stack: ExitStack, connection: socket.socket, step: Callable[[socket.socket], object]) -> None:
    """Repeat a step in a thread until the connection is closed, at the latest at the end of the stack."""

    def repeat_step() -> None:
        with suppress(OSError):
            while step(connection) != b"":
                pass

    thread = threading.Thread(target=repeat_step)
    thread.start()
    stack.callback(thread.join)
    stack.callback(end, connection)


def end(connection: socket.socket) -> None:
    """End a connection that another thread may be using."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
