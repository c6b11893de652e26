"""Deadlines over connections to peers that send one byte at a time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from daemon.network.deadlines import Deadline, DeadlineExceeded, connect
from daemon.network.http import DeadlineAdapter
from tests.support.slow_peers import FILLER, Answer, http_answer, slow_server

TIMEOUT = 60.0
"""Timeout of a socket. It never applies, because bytes arrive all the time."""


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Return the address of a server that sends bytes slowly to every connection."""
    with slow_server(lambda _: Answer(b"hello", FILLER), reads_first=False) as found:
        host, _, port = found.rpartition(":")
        yield host, int(port)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    # Bytes that arrive after the shutdown reset the connection.
    with suppress(ConnectionResetError):
        while part := connection.recv(100):
            received += part
    return received


def test_slow_peer_is_cut_off_and_does_not_look_complete(address: tuple[str, int]) -> None:
    with (
        pytest.raises(DeadlineExceeded, match=r"longer than 0\.2 s"),
        Deadline(0.2),
        connect(*address, TIMEOUT) as connection,
    ):
        assert len(read_all(connection)) < len(FILLER)


def test_error_after_the_deadline_is_reported_as_such(address: tuple[str, int]) -> None:
    def parse_answer() -> None:
        with Deadline(0.2), connect(*address, TIMEOUT) as connection:
            read_all(connection)
            raise ValueError("incomplete")

    with pytest.raises(DeadlineExceeded) as failure:
        parse_answer()

    assert isinstance(failure.value.__cause__, ValueError)


def test_late_success_is_accepted_on_request(address: tuple[str, int]) -> None:
    with Deadline(0.2, accept_late_success=True), connect(*address, TIMEOUT) as connection:
        read_all(connection)


def test_error_before_the_deadline_stays_as_it_is() -> None:
    with pytest.raises(ValueError, match="wrong"), Deadline(60):
        raise ValueError("wrong")


def test_connection_obeys_the_outer_deadline_too(address: tuple[str, int]) -> None:
    with (
        pytest.raises(DeadlineExceeded, match=r"0\.2 s"),
        Deadline(0.2),
        Deadline(60),
        connect(*address, TIMEOUT) as connection,
    ):
        assert len(read_all(connection)) < len(FILLER)


@pytest.mark.slow
def test_restarted_deadline_waits_again(address: tuple[str, int]) -> None:
    """Five times the deadline pass, and the deadline starts again with each byte."""
    with Deadline(0.4) as deadline, connect(*address, TIMEOUT) as connection:
        for _ in range(100):
            assert connection.recv(1)
            deadline.restart()


def test_deadlines_of_threads_are_independent(address: tuple[str, int]) -> None:
    received: list[bytes] = []
    connected, expired = threading.Event(), threading.Event()

    def read_without_a_deadline() -> None:
        with connect(*address, TIMEOUT) as connection:
            connected.set()
            expired.wait()
            received.append(connection.recv(1))

    thread = threading.Thread(target=read_without_a_deadline)
    with Deadline(0.2, accept_late_success=True), connect(*address, TIMEOUT) as connection:
        thread.start()
        connected.wait()
        read_all(connection)
        expired.set()
        thread.join()

    assert received[0]


def test_no_attempt_to_connect_begins_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may resolve to many addresses that do not answer, and each attempt may take the timeout of a socket."""
    silent = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 80))
    attempts: list[float | None] = []

    class Blackhole(socket.socket):
        def connect(self, _address: object) -> None:
            attempts.append(self.gettimeout())
            threading.Event().wait(self.gettimeout())
            raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: [silent] * 50)
        patch.setattr(socket, "socket", Blackhole)
        with pytest.raises(TimeoutError), Deadline(0.3):
            connect("many.test", 80, 0.2)

    assert 1 <= len(attempts) <= 3


def test_kept_alive_connection_obeys_the_next_deadline() -> None:
    answers = iter([Answer(http_answer(b"ok")), Answer(b"HTTP/1.1 200 OK\r\n", FILLER)])
    with slow_server(lambda _: next(answers)) as address, requests.Session() as session:
        session.mount("http://", DeadlineAdapter())
        with Deadline(60):
            assert session.get(f"http://{address}/", timeout=TIMEOUT).text == "ok"
        with pytest.raises(DeadlineExceeded), Deadline(0.2):
            session.get(f"http://{address}/", timeout=TIMEOUT)


def test_handshake_of_tls_obeys_the_deadline() -> None:
    """The server announces a TLS record of 16 KB and sends it slowly."""
    with (
        slow_server(lambda _: Answer(b"\x16\x03\x03\x40\x00", FILLER)) as address,
        requests.Session() as session,
    ):
        session.mount("https://", DeadlineAdapter())
        with pytest.raises(DeadlineExceeded), Deadline(0.2):
            session.get(f"https://{address}/", timeout=TIMEOUT)


def test_deadlines_share_one_thread() -> None:
    def use_a_deadline() -> None:
        with Deadline(60):
            pass

    use_a_deadline()  # starts the thread, if no other test did
    before = threading.active_count()
    with Deadline(60), Deadline(60):
        use_a_deadline()
        assert threading.active_count() == before


def test_deadlines_expire_in_a_forked_process() -> None:
    program = """
import os, socket
from daemon.network.deadlines import Deadline, DeadlineExceeded, watch
with Deadline(60):
    pass
if os.fork() == 0:
    near, far = socket.socketpair()
    try:
        with Deadline(0.05):
            watch(near)
            near.recv(1)  # nothing arrives
    except DeadlineExceeded:
        os._exit(7)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "7"
