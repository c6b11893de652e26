"""One HTTP connection of the bot: read bodies within limits, send answers. Used by the server and the pages."""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

LARGEST_BODY = 64 * 1024
"""Largest number of bytes in the body of a request."""
_LARGEST_DISCARDED = 16 * LARGEST_BODY
_DISCARD_SECONDS = 1


class RefusedBody(ValueError):
    """A body that the bot does not read.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: HTTPStatus, problem: str) -> None:
        """Describe the problem for the client."""
        super().__init__(problem)
        self.status = status


class Exchange(BaseHTTPRequestHandler, ABC):
    """Reads requests and sends answers on one connection."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    # Headers and body are separate writes; without this, the second can wait for the client's acknowledgement.
    disable_nagle_algorithm = True

    _has_unread_body = False

    @abstractmethod
    def answer(self) -> None:
        """Answer the request that `command`, `path` and `headers` describe."""

    def do_GET(self) -> None:
        """Answer a request."""
        self._answer_and_discard()

    def do_HEAD(self) -> None:
        """Answer a request without sending the body of the answer."""
        self._answer_and_discard()

    def do_POST(self) -> None:
        """Answer a request."""
        self._answer_and_discard()

    def do_PUT(self) -> None:
        """Answer a request."""
        self._answer_and_discard()

    def do_DELETE(self) -> None:
        """Answer a request."""
        self._answer_and_discard()

    def handle_expect_100(self) -> bool:
        """Go on without the answer 100, which `read_body` sends: a refused client need not send its body."""
        return True

    def read_body(self) -> bytes:
        """Return the body of the request, which is empty for most methods.

        Raises:
            RefusedBody: the body is too large, or its length is unknown or wrong.
        """
        if "Transfer-Encoding" in self.headers:
            raise RefusedBody(HTTPStatus.LENGTH_REQUIRED, "the length of the body is missing")
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            raise RefusedBody(HTTPStatus.BAD_REQUEST, "the length of the body is not a number")
        if int(length) > LARGEST_BODY:
            raise RefusedBody(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body exceeds {LARGEST_BODY} bytes")
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RefusedBody(HTTPStatus.BAD_REQUEST, "the body is incomplete")
        self._has_unread_body = False
        return body

    def send_json(self, status: HTTPStatus, content: object) -> None:
        """Send a JSON answer."""
        self.send(status, "application/json", json.dumps(content).encode())

    def send_page(self, status: HTTPStatus, page: str) -> None:
        """Send an HTML page."""
        self.send(status, "text/html; charset=utf-8", page.encode(errors="replace"))

    def send(
        self, status: HTTPStatus, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send an answer with additional headers."""
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if self._has_unread_body:  # where the next request begins is unknown
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def discard_input(self) -> None:
        """End the connection for a client that may still send, and would lose the answer if it was closed at once."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_DISCARD_SECONDS)
            self.rfile.read(_LARGEST_DISCARDED)

    def _answer_and_discard(self) -> None:
        length = self.headers.get("Content-Length", "0")
        self._has_unread_body = length != "0" or "Transfer-Encoding" in self.headers
        self.answer()
        if self._has_unread_body:
            self.discard_input()
