"""WebSockets and server-sent events of the reference bot, frame by frame."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.reference_bot.configuration import Configuration
from demo.reference_bot.server import running_server
from demo.reference_bot.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LARGEST_MESSAGE,
    PING,
    PONG,
    TEXT,
    WebSocket,
    accept_value,
)
from tests.demo.reference_bot.local_bots import ALICE, BotClient, identity, make_bot, running_bot

pytestmark = pytest.mark.requests

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
GOING_AWAY = struct.pack("!H", 1001)


def encode(opcode: int, payload: bytes, *, first: int = 0x80, masked: bool = True) -> bytes:
    """Return a frame as a client sends it; `first` has the bits before the opcode."""
    if len(payload) < 126:
        length = struct.pack("!B", len(payload) | 0x80 * masked)
    elif len(payload) < 65536:
        length = struct.pack("!BH", 126 | 0x80 * masked, len(payload))
    else:
        length = struct.pack("!BQ", 127 | 0x80 * masked, len(payload))
    mask = os.urandom(4)
    # As one number: byte by byte, the large messages would take a second whenever tests are collected.
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    body = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))
    return bytes([first | opcode]) + length + (mask + body if masked else payload)


@dataclass(frozen=True)
class Connection:
    """The client's side of a WebSocket."""

    socket: socket.socket
    reader: BinaryIO

    def send(self, opcode: int, payload: bytes, *, first: int = 0x80, masked: bool = True) -> None:
        """Send a frame."""
        self.socket.sendall(encode(opcode, payload, first=first, masked=masked))

    def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        first, length = self.reader.read(2)
        assert first & 0xF0 == 0x80
        if length == 126:
            (length,) = struct.unpack("!H", self.reader.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.reader.read(8))
        return first & 0x0F, self.reader.read(length)

    def is_closed(self) -> bool:
        """Whether the bot has closed the connection, after everything it sent was read."""
        return self.reader.read(1) == b""


@contextmanager
def connected(port: int, headers: dict[str, str] | None = None) -> Iterator[Connection]:
    """Open a WebSocket as Alice."""
    lines = {"Host": "bot", **HANDSHAKE, **(identity(ALICE) if headers is None else headers)}
    request = "GET /ws HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, connection.makefile("rb") as reader:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request.encode())
        answer = b"".join(iter(reader.readline, b"\r\n"))
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        yield Connection(connection, reader)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of a bot with Alice as its owner."""
    with running_bot(tmp_path_factory.mktemp("bot")) as client:
        client.provision()
        yield client.port


def test_accept_value_is_that_of_the_standard() -> None:
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, LARGEST_MESSAGE])
def test_messages_of_every_length_come_back(port: int, opcode: int, size: int) -> None:
    with connected(port) as websocket:
        websocket.send(opcode, b"x" * size)
        assert websocket.receive() == (opcode, b"x" * size)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=6), ping=st.booleans())
def test_fragments_with_pings_between_them_are_joined(port: int, parts: list[bytes], ping: bool) -> None:
    with connected(port) as websocket:
        for index, part in enumerate(parts):
            final = 0x80 if index == len(parts) - 1 else 0
            websocket.send(CONTINUATION if index else BINARY, part, first=final)
            if ping and not final:
                websocket.send(PING, b"ping")
                assert websocket.receive() == (PONG, b"ping")
        assert websocket.receive() == (BINARY, b"".join(parts))


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (struct.pack("!H", 1000), struct.pack("!H", 1000)),
        (struct.pack("!H", 4321) + "tschüß".encode(), struct.pack("!H", 4321)),
        (b"\x03", struct.pack("!H", 1002)),
        (struct.pack("!H", 1005), struct.pack("!H", 1002)),
        (struct.pack("!H", 1000) + b"\xff", struct.pack("!H", 1007)),
    ],
)
def test_close_is_answered_with_its_code(port: int, sent: bytes, answered: bytes) -> None:
    with connected(port) as websocket:
        websocket.send(CLOSE, sent)
        assert websocket.receive() == (CLOSE, answered)
        assert websocket.is_closed()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (encode(TEXT, b"x", masked=False), 1002),
        (encode(TEXT, b"x", first=0xC0), 1002),
        (encode(0x3, b"x"), 1002),
        (encode(CONTINUATION, b"x"), 1002),
        (encode(TEXT, b"x", first=0) + encode(TEXT, b"y"), 1002),
        (encode(PING, b"x" * 126), 1002),
        (encode(PING, b"x", first=0), 1002),
        (encode(TEXT, b"\xc3("), 1007),
        (encode(BINARY, b"x" * (LARGEST_MESSAGE + 1)), 1009),
        (encode(BINARY, b"x" * LARGEST_MESSAGE, first=0) + encode(CONTINUATION, b"x"), 1009),
        (b"\x82\xff" + b"\xff" * 8, 1009),
    ],
    # Frames contain random masks, and every test process must collect the same names.
    ids=[
        "no mask",
        "reserved bit",
        "unknown opcode",
        "continuation of nothing",
        "message inside a message",
        "long ping",
        "ping in parts",
        "invalid text",
        "large frame",
        "large message",
        "huge announced length",
    ],
)
def test_violations_close_with_their_code(port: int, frame: bytes, code: int) -> None:
    with connected(port) as websocket:
        websocket.socket.sendall(frame)
        assert websocket.receive() == (CLOSE, struct.pack("!H", code))
        websocket.socket.shutdown(socket.SHUT_WR)
        assert websocket.is_closed()


@pytest.mark.slow
def test_a_client_that_does_not_read_cannot_delay_a_stop(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0))
    with running_server(bot) as port:
        bot.migrate()
        with connected(port, {}) as websocket:
            websocket.socket.settimeout(0.5)
            # Both directions are full when the bot waits to send back what it has received.
            with pytest.raises(TimeoutError):
                send_forever(websocket)
            stopping = threading.Thread(target=bot.activity.stop, args=(10,), daemon=True)
            stopping.start()
            stopping.join(20)
            assert not stopping.is_alive()


def send_forever(websocket: Connection) -> None:
    """Send messages until the bot reads no more."""
    while True:
        websocket.send(BINARY, b"x" * LARGEST_MESSAGE)


def test_nothing_follows_a_close_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as reader:
        theirs.sendall(encode(CONTINUATION, b"x"))
        websocket = WebSocket(reader, ours)
        websocket.echo()
        websocket.close()
        assert theirs.recv(100) == bytes([0x80 | CLOSE, 2]) + struct.pack("!H", 1002)
        assert theirs.recv(100) == b""


@pytest.mark.parametrize(
    "change",
    [
        {"Upgrade": "h2c"},
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "c2hvcnQ="},
    ],
)
def test_a_wrong_handshake_is_refused(port: int, change: dict[str, str]) -> None:
    reply = BotClient(port).send("GET", "/ws", headers={**HANDSHAKE, **identity(ALICE), **change})
    assert (reply.status, reply.headers["Upgrade"]) == (426, "websocket")


@pytest.mark.parametrize("path", ["/ws", "/events"])
def test_strangers_get_no_stream(port: int, path: str) -> None:
    assert BotClient(port).send("GET", path, headers=HANDSHAKE).status == 403


@pytest.mark.parametrize(("path", "status"), [("/ws", 426), ("/events", 200)])
def test_head_starts_no_stream(port: int, path: str, status: int) -> None:
    assert BotClient(port).send("HEAD", path, headers={**HANDSHAKE, **identity(ALICE)}).status == status


@pytest.mark.slow
def test_events_are_numbered(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/events", headers=identity(ALICE))
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream")
        assert [answer.readline() for _ in range(6)] == [
            b"id: 1\n",
            b"data: 1\n",
            b"\n",
            b"id: 2\n",
            b"data: 2\n",
            b"\n",
        ]


def test_a_stop_ends_all_streams(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0))
    with running_server(bot) as port:
        bot.migrate()
        events = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        events.request("GET", "/events")
        answer = events.getresponse()
        assert answer.readline() == b"id: 1\n"
        # Left in the middle of a message, as after a client's crash.
        with connected(port, {}) as websocket, connected(port, {}) as silent:
            websocket.send(TEXT, b"before")
            assert websocket.receive() == (TEXT, b"before")
            silent.send(TEXT, b"unfinished", first=0)
            assert bot.activity.stop(10)
            assert websocket.receive() == silent.receive() == (CLOSE, GOING_AWAY)
            assert websocket.is_closed()
        assert answer.read().startswith(b"data: 1\n")
        events.close()
