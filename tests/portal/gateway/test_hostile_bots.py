"""Bots that break the rules of HTTP harm neither the gateway nor other bots."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.gateway import limits
from portal.models import Bot
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, RunningGateway, read_all, sign_in
from tests.support.scene import Scene
from tests.support.websocket import ACCEPTED, KEY, open_socket

pytestmark = [pytest.mark.requests, pytest.mark.slow]

Answer = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"
SWITCHED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPTED}\r\n"
).encode()
"""The answer to a handshake with the key `KEY`, without the empty line at its end."""


@contextmanager
def raw_bot(answer: Answer) -> Iterator[str]:
    """Run a bot that answers each connection with raw bytes. Yield its address."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def hostile(
    request: pytest.FixtureRequest, gateway: RunningGateway, database: Database, cast: Cast, scene: Scene
) -> Iterator[Browser]:
    """Return Bob's browser at a bot with the raw answer of the test's parameter."""
    with raw_bot(request.param) as address:
        with database.transaction() as session:
            session.execute(sa.update(Bot).where(Bot.id == scene.bots[1]).values(address=address))
        yield sign_in(gateway, database, cast.people["bob"], scene.bots[1])


def send(response: bytes) -> Answer:
    """Return an answer that sends bytes and closes."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(response)

    return answer


received_at: list[float] = []


def close_after_receiving(_connection: socket.socket) -> None:
    """Close the connection without a response."""
    received_at.append(time.monotonic())


def wait(_connection: socket.socket) -> None:
    """Send nothing."""
    time.sleep(5)


def start_and_wait(connection: socket.socket) -> None:
    """Send the headers only."""
    connection.sendall(OK + b"\r\n")
    time.sleep(20)


def send_endless_headers(connection: socket.socket) -> None:
    """Send headers without end."""
    connection.sendall(OK)
    while True:
        connection.sendall(b"X-Header: " + b"a" * 1000 + b"\r\n")


def send_endless_line(connection: socket.socket) -> None:
    """Send one header without end."""
    connection.sendall(OK + b"X-Header: ")
    while True:
        connection.sendall(b"a" * 65536)


def send_reset(connection: socket.socket) -> None:
    """Reset the connection in the middle of the body."""
    connection.sendall(OK + b"Content-Length: 100\r\n\r\nhalf")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    "hostile",
    [
        send(b""),
        send(b"SSH-2.0-OpenSSH_9.2\r\n"),
        send(b"HTTP/1.1 abc OK\r\n\r\n"),
        send(b"HTTP/1.1 99999 OK\r\n\r\n"),
        send(b"\0" * 1000),
        send(OK + b"Content-Length: -5\r\n\r\n"),
        send(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        send(OK + b"Content-Length: 5x\r\n\r\nhello"),
        send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        send_endless_headers,
        send_endless_line,
    ],
    indirect=True,
)
def test_an_invalid_response_becomes_a_page(hostile: Browser) -> None:
    status, body = hostile.read("/", "POST", b"x")
    assert status == 502
    assert b"sent no valid response" in body
    assert b"127.0.0.1" not in body


@pytest.mark.parametrize("hostile", [send(b"SSH-2.0-OpenSSH_9.2\r\n")], indirect=True)
@pytest.mark.parametrize(
    ("target", "link"),
    [("/notes?a=1&b=%22", "/notes?a=1&amp;b=%22"), ("/<script>", "/&lt;script&gt;"), ("//evil.example/", "/")],
)
def test_the_page_leads_to_the_same_page_of_the_bot(hostile: Browser, target: str, link: str) -> None:
    _, body = hostile.read(target, headers={"Sec-Fetch-Mode": "navigate"})
    assert f'href="{link}">Try again</a>'.encode() in body


@pytest.mark.parametrize(
    "hostile",
    [
        send(OK + b"Content-Length: 100\r\n\r\nhalf"),
        send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n"),
        send_reset,
    ],
    indirect=True,
)
def test_a_response_that_breaks_off_is_not_completed(hostile: Browser) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {hostile.host}\r\nCookie: flotilla-gateway={hostile.token}\r\n\r\n"
    received = hostile.gateway.send(request.encode())
    assert not received.endswith(b"0\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    is_page = head.startswith(b"HTTP/1.1 502 ")
    assert is_page or (head.startswith(b"HTTP/1.1 200 ") and len(body) < 100)


SURPLUS = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"


@pytest.mark.parametrize("hostile", [send(OK + b"Content-Length: 2\r\n\r\nok" + SURPLUS)], indirect=True)
def test_surplus_bytes_never_become_another_response(hostile: Browser) -> None:
    for _ in range(5):
        assert hostile.read() == (200, b"ok")


@pytest.mark.parametrize(
    "hostile",
    [send(OK + b"Content-Length: 2\r\nX-Bad: a\x01b\r\nBad Name: x\r\nX_Odd: 1\r\nX-Latin: \xe9\r\n\r\nok")],
    indirect=True,
)
def test_invalid_headers_of_responses_never_reach_the_browser(hostile: Browser) -> None:
    with hostile.open() as answer:
        assert answer.status in {200, 502}
        assert {"X-Bad", "Bad Name"} & set(answer.headers) == set()


@pytest.mark.parametrize(
    "hostile",
    [send(OK + b"Content-Length: 2\r\nX-Latin: caf\xe9\r\nX-Utf: caf\xc3\xa9\r\nLocation: /\xe9\r\n\r\nok")],
    indirect=True,
)
def test_values_of_headers_keep_their_encoding(hostile: Browser) -> None:
    with hostile.open() as answer:  # the client decodes Latin-1
        assert answer.headers["X-Latin"] == "caf\xe9"
        assert answer.headers["X-Utf"] == "caf\xc3\xa9"
        assert answer.headers["Location"] == "/\xe9"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway wait for half a second only."""
    monkeypatch.setattr(limits, "BOT_IDLE_SECONDS", 0.5)


@pytest.mark.parametrize("hostile", [wait], indirect=True)
def test_a_silent_bot_times_out(impatient: None, hostile: Browser) -> None:
    assert hostile.read()[0] == 504
    assert hostile.read("/", "POST", b"x")[0] == 504


@pytest.mark.parametrize("hostile", [start_and_wait], indirect=True)
def test_a_bot_that_opens_no_socket_and_stops_in_its_response_times_out(impatient: None, hostile: Browser) -> None:
    with open_socket(hostile) as socket_:
        assert socket_.status == 200
        socket_.connection.settimeout(5)
        assert socket_.connection.recv(1) == b""


@pytest.mark.parametrize("hostile", [close_after_receiving], indirect=True)
def test_a_request_that_ends_the_bot_is_sent_twice_at_most(hostile: Browser) -> None:
    received_at.clear()
    assert hostile.read("/", "POST", b"x")[0] == 502
    assert len(received_at) == 1
    assert hostile.read()[0] == 503
    assert len(received_at) == 3


@pytest.mark.parametrize("hostile", [start_and_wait], indirect=True)
def test_many_hanging_responses_do_not_affect_other_bots(
    hostile: Browser, bob: Browser, bot: FakeBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PER_USER", 60)
    request = f"GET / HTTP/1.1\r\nHost: {hostile.host}\r\nCookie: flotilla-gateway={hostile.token}\r\n\r\n"
    connections = [hostile.gateway.connect() for _ in range(50)]
    for connection in connections:
        connection.sendall(request.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert bob.read()[0] == 200
    monkeypatch.setattr(limits, "MAX_PER_USER", 50)
    assert bob.read()[0] == 429
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + 5
    while bob.read()[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "hostile",
    [send(SWITCHED + b"\r\n" + b"\xff" * 100_000), send(SWITCHED + b"Set-Cookie: a=1; Domain=x\r\n\r\n")],
    indirect=True,
)
def test_a_socket_with_invalid_frames_only_ends(hostile: Browser, bob: Browser, bot: FakeBot) -> None:
    with open_socket(hostile, headers={"Sec-WebSocket-Key": KEY}) as socket_:
        assert socket_.status == 101
        assert "Domain" not in socket_.handshake
        read_all(socket_.connection)
    assert bob.read()[0] == 200
