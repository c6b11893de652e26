"""A server that sends fixed bytes, for tests of health checks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running_server(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server that gives the same answer to all requests. Yield its address and the requests received."""
    requests: list[bytes] = []
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                requests.append(connection.recv(4096))
                try:
                    connection.sendall(answer)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", requests
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Build an HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
