"""A client for WebSockets that sends and receives raw frames. Used by tests of the gateway."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.gateway import COOKIE, Browser

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY, ACCEPTED = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""A key of a client, and what a server answers to it: the example of RFC 6455."""


@dataclass
class Socket:
    """An open WebSocket."""

    connection: socket.socket
    handshake: str
    _received: bytes = b""

    @property
    def status(self) -> int:
        """Status of the handshake."""
        return int(self.handshake.split()[1])

    def send(self, kind: int, payload: bytes) -> None:
        """Send a frame."""
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else bytes([0xFF]) + length.to_bytes(8, "big")
        # The mask is zero, so the payload stays as it is.
        self.connection.sendall(bytes([0x80 | kind]) + size + b"\0\0\0\0" + payload)

    def receive(self) -> tuple[int, bytes]:
        """Return kind and payload of the next frame.

        Raises:
            ConnectionError: the connection was closed.
        """
        head = self._read(2)
        length = head[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
        return head[0] & 0x0F, self._read(length)

    def wait_for_close(self) -> int:
        """Return the close code that ends the socket; 1006 if it ends without one."""
        try:
            while True:
                kind, payload = self.receive()
                if kind == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        except ConnectionError:
            return 1006

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            chunk = self.connection.recv(65536)
            if not chunk:
                raise ConnectionResetError
            self._received += chunk
        found, self._received = self._received[:size], self._received[size:]
        return found


@contextmanager
def open_socket(browser: Browser, target: str = "/ws", headers: Mapping[str, str] | None = None) -> Iterator[Socket]:
    """Open a WebSocket from a page of the bot."""
    sent = {
        "Host": browser.host,
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Origin": f"http://{browser.host}",
        "Cookie": f"{COOKIE}={browser.token}",
        **(headers or {}),
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    with browser.gateway.connect() as connection:
        connection.settimeout(20)
        connection.sendall("\r\n".join(lines).encode())
        received = b""
        while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
            received += chunk
        head, _, rest = received.partition(b"\r\n\r\n")
        yield Socket(connection, head.decode(), rest)
