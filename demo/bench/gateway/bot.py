"""A bot that costs as little as possible, so that the proxy in front of it is measured. Run as a process.

It answers GET with a short text, `/download` with 100 MB, POST with the number of received bytes, and accepts
WebSockets on which it says nothing.
"""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from collections.abc import Iterator
from hashlib import sha1
from typing import cast

import uvloop

DOWNLOAD_BYTES = 100_000_000
_CHUNK = bytes(256 * 1024)
_SHORT = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nHello, Alice"
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)
_HANDSHAKE_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Connection(asyncio.Protocol):
    """A connection. Requests come one after the other, because proxies do not pipeline."""

    def __init__(self) -> None:
        self._head = b""
        self._body_left = 0
        self._body_size = 0
        self._is_socket = False
        self._parts: Iterator[bytes] = iter(())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._is_socket:
            return
        if self._body_left:
            self._receive_body(len(data))
            return
        self._head += data
        head, separator, body = self._head.partition(b"\r\n\r\n")
        if separator:
            self._head = b""
            self._answer(head, len(body))

    def resume_writing(self) -> None:
        self._send_parts()

    def pause_writing(self) -> None:
        self._is_paused = True

    def _answer(self, head: bytes, body_size: int) -> None:
        if head.startswith(b"POST "):
            self._body_left = self._body_size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self._receive_body(body_size)
        elif head.startswith(b"GET /download "):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWNLOAD_BYTES)
            self._parts = _cut(DOWNLOAD_BYTES)
            self._send_parts()
        elif b"\r\nupgrade:" in head.lower():
            self._is_socket = True
            self._transport.write(_SWITCH % _accept(head))
        else:
            self._transport.write(_SHORT)

    def _receive_body(self, size: int) -> None:
        self._body_left -= size
        if not self._body_left:
            text = b"%d" % self._body_size
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    def _send_parts(self) -> None:
        self._is_paused = False
        for part in self._parts:
            self._transport.write(part)
            if self._is_paused:
                return


def _accept(head: bytes) -> bytes:
    """Return the proof of RFC 6455 that this server speaks WebSocket."""
    key = re.search(rb"\r\nsec-websocket-key: *([^\r]*)", head, re.IGNORECASE)
    proof = sha1((key[1] if key else b"") + _HANDSHAKE_ID, usedforsecurity=False)
    return base64.b64encode(proof.digest())


def _cut(size: int) -> Iterator[bytes]:
    while size:
        part = _CHUNK[:size]
        size -= len(part)
        yield part


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
