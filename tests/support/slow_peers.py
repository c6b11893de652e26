"""Servers that send their answers one byte at a time. Used by tests of deadlines."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAUSE_SECONDS = 0.02
FILLER = b"x" * 1000
"""So many slow bytes take twenty seconds, much longer than the deadlines of tests."""


@dataclass(frozen=True)
class Answer:
    """An answer: the part that is sent at once, and the part that is sent slowly."""

    fast: bytes
    slow: bytes = b""


def http_answer(body: bytes, headers: str = "") -> bytes:
    """Build an HTTP response."""
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def slow_server(
    answer: Callable[[bytes], Answer], *, reads_first: bool = True, unix_socket: Path | None = None
) -> Iterator[str]:
    """Run a server and yield its address. A connection stays open after an answer without a slow part.

    Args:
        answer: returns the answer to a request, given its bytes.
        reads_first: whether the server waits for a request before it answers.
        unix_socket: where to listen instead of a TCP port.
    """
    stopped = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                request = connection.recv(65536) if reads_first else b"connected"
                while request:
                    reply = answer(request)
                    connection.sendall(reply.fast)
                    for byte in reply.slow:
                        if stopped.wait(PAUSE_SECONDS):
                            return
                        connection.sendall(bytes([byte]))
                    request = b"" if reply.slow else connection.recv(65536)
            except OSError:
                return  # the client has closed the connection

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    with _listen(unix_socket) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield str(unix_socket) if unix_socket else f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def _listen(unix_socket: Path | None) -> socket.socket:
    if unix_socket is None:
        return socket.create_server(("127.0.0.1", 0))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(unix_socket))
    listener.listen()
    return listener
