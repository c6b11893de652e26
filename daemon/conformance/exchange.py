"""One HTTP exchange with a bot, with limits of time and size. Used by `Trial`.

It follows no redirect, uses no proxy, and decodes no content encoding: the bot is judged by what it sends.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from daemon.conformance.outcomes import Violation
from daemon.network.deadlines import Deadline, connect
from portal.rules.outside_text import clean_line

MAX_ANSWER_BYTES = 64 * 1024
MAX_LIST_BYTES = 1024 * 1024
"""Maximum size of a list of members."""

_MAX_QUOTED = 160


class NoAnswer(Violation):
    """The bot sent no complete answer within the limits.

    Attributes:
        timed_out: whether the time was over.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        method: such as `POST`.
        path: path and query.
        headers: names and values.
        body: None for a request without a body.
        max_bytes: maximum size of the answer; None if any size is allowed and only the beginning is of interest.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None
    max_bytes: int | None = MAX_ANSWER_BYTES

    def __str__(self) -> str:
        """Return method and path without the query, for messages."""
        return f"{self.method} {self.path.partition('?')[0]}"


@dataclass(frozen=True)
class Answer:
    """A complete answer, and the request to which it belongs."""

    request: Request
    status: int
    body: bytes

    def __str__(self) -> str:
        """Return what was answered to what, for messages."""
        text = clean_line(self.body[: 4 * _MAX_QUOTED].decode(errors="replace"), _MAX_QUOTED)
        quoted = "an HTML page" if text.startswith("<") else text  # its beginning tells nothing
        return f"{self.request} answered {self.status}" + (f" ({quoted})" if quoted else "")

    def expect(self, *statuses: int, when: str = "") -> Answer:
        """Return this answer if it has one of the statuses.

        Args:
            statuses: the expected statuses.
            when: the circumstances, for the message.

        Raises:
            Violation: it has another status.
        """
        if self.status not in statuses:
            expected = " or ".join(map(str, statuses))
            raise Violation(f"{self}{f' {when}' if when else ''}, expected {expected}.")
        return self

    def parse(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Violation: it is something else.
        """
        try:
            document = json.loads(self.body.decode())
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Violation(f"{self}, expected a JSON object.")
        return document


def exchange(address: str, request: Request, seconds: float) -> Answer:
    """Send a request and read the whole answer.

    Args:
        address: `host:port`.
        request: the request.
        seconds: time limit from the connection to the last byte of the answer.

    Raises:
        NoAnswer: no connection, no complete answer in time, no valid HTTP, or an answer that is too large.
    """
    try:
        with Deadline(seconds):
            status, body = _send(address, request, seconds)
    except TimeoutError as error:
        raise NoAnswer(f"{request} got no complete answer within {seconds:g} s.", timed_out=True) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        detail = clean_line(error, _MAX_QUOTED) or type(error).__name__
        raise NoAnswer(f"{request} got no complete answer: {detail}.") from error
    if request.max_bytes is not None and len(body) > request.max_bytes:
        raise NoAnswer(f"{request} was answered with more than {request.max_bytes // 1024} KB.")
    return Answer(request, status, body)


def _send(address: str, request: Request, seconds: float) -> tuple[int, bytes]:
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    connection = http.client.HTTPConnection(host, port)
    try:
        connection.sock = connect(host, port, seconds)
        # A bot may answer and close before it has read a body that is too large. Its answer is still readable.
        with suppress(BrokenPipeError, ConnectionResetError):
            headers = {"Accept": "application/json, */*", "Connection": "close", **request.headers}
            connection.request(request.method, request.path, request.body, headers)
        response = connection.getresponse()
        limit = request.max_bytes or MAX_ANSWER_BYTES
        body = response.read(limit + 1)
        if response.length and len(body) <= limit:
            raise http.client.IncompleteRead(body, response.length)
        return response.status, body
    finally:
        connection.close()
