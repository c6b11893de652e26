"""One HTTP exchange with a bot: a request, and a JSON answer within limits of time and size. Used by the client.

A bot is not trusted. An exchange follows no redirect, uses no proxy and no cookies, decompresses nothing, and has a
deadline from the connection to the last byte.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from daemon.network.deadlines import Deadline, connect
from daemon.provision.failures import BadAnswerError, NoAnswerError

MAX_ANSWER_BYTES = 64 * 1024
MAX_LIST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        status: the HTTP status.
        content: the parsed JSON; None where the body is no JSON.
    """

    status: int
    content: Any


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        method: the HTTP method.
        path: path and query.
        headers: headers, which contain the secret.
        body: JSON, or None.
        max_bytes: limit of the answer's body.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    max_bytes: int = MAX_ANSWER_BYTES


def exchange(address: str, request: Request, seconds: float) -> Answer:
    """Send one request to a bot and read its answer.

    Args:
        address: `host:port`.
        request: the request.
        seconds: time limit of the whole exchange.

    Raises:
        NoAnswerError: there was no complete answer within the time limit.
        BadAnswerError: the answer is too large, compressed, or no HTTP.
    """
    try:
        with Deadline(seconds):
            return _exchange(address, request, seconds)
    except TimeoutError:
        raise NoAnswerError(f"no complete answer within {seconds:g} s") from None
    except (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionResetError, BrokenPipeError):
        raise NoAnswerError("the bot closed the connection") from None
    except OSError as error:
        raise NoAnswerError(f"no connection: {error.strerror or type(error).__name__}") from None
    # The messages of these errors quote the answer.
    except (http.client.HTTPException, ValueError):
        raise BadAnswerError("the answer is not valid HTTP") from None


def _exchange(address: str, request: Request, seconds: float) -> Answer:
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    headers = {"Accept-Encoding": "identity", "Connection": "close", **request.headers}
    connection = http.client.HTTPConnection(host, port)
    try:
        connection.sock = connect(host, port, seconds)
        connection.request(request.method, request.path, request.body, headers)
        response = connection.getresponse()
        return Answer(response.status, _parse(_read(response, request.max_bytes)))
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadAnswerError(f"HTTP {response.status} with a compressed answer")
    body = response.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise BadAnswerError(f"HTTP {response.status} with an answer larger than {max_bytes // 1024} KB")
    if response.length:  # the rest, which the bot announced and did not send
        raise NoAnswerError("the bot closed the connection")
    return body


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
