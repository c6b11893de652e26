"""A small HTTP server whose answers are ready at once. Used by the engines that only pretend.

Its own processor time is part of a benchmark, because it runs on the same machine. So it does as little as possible.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools


@dataclass(frozen=True)
class Answer:
    """An answer: status, body, and whether the body is sent in one chunk as a stream."""

    status: HTTPStatus
    body: bytes = b""
    chunked: bool = False

    @classmethod
    def of_json(cls, content: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
        """Return an answer with a JSON body."""
        return cls(status, json.dumps(content).encode())

    def encode(self) -> bytes:
        """Return the bytes of the whole answer."""
        head = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\nContent-Type: application/json\r\n"
        if self.chunked:
            return (
                f"{head}Transfer-Encoding: chunked\r\n\r\n{len(self.body):x}\r\n".encode()
                + self.body
                + b"\r\n0\r\n\r\n"
            )
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


class HttpProtocol(asyncio.Protocol):
    """One connection, which stays open until the client closes it.

    Args:
        answer: called with method, target and body of each request; None for no answer at all.
    """

    def __init__(self, answer: Callable[[str, str, bytes], Answer | None]) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._target = ""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; the parser calls the methods below."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._target, self._body = url.decode(), b""

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer the request."""
        method = self._parser.get_method().decode()
        answer = self._answer(method, self._target, self._body)
        if answer is None:
            return
        self._transport.write(answer.encode())
        if not self._parser.should_keep_alive():
            self._transport.close()
