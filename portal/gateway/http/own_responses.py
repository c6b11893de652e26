"""Responses of the gateway's own: pages, files and redirects. Used by the handler of requests and by connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus

from portal.gateway import limits
from portal.gateway.http.connections import Connection
from portal.gateway.http.heads import build_response_head, read_date
from portal.gateway.http.requests import Refused
from portal.rules.proxy_headers import Headers

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Server", "flotilla"),
)
NOT_STORED = ("Cache-Control", "no-store")


@dataclass(slots=True)
class Sent:
    """What a client has received, for the log.

    Attributes:
        status: status of the response.
        size: bytes of its body.
    """

    status: int
    size: int


@dataclass(slots=True)
class OwnResponse:
    """A response of the gateway.

    Attributes:
        status: the status.
        body: the body.
        content_type: the type of the body.
        headers: further headers.
        closes: whether the connection is closed afterwards.
    """

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Headers = field(default_factory=lambda: [NOT_STORED])
    closes: bool = False


def text_response(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> OwnResponse:
    """Return a response with one line of text."""
    return OwnResponse(status, f"{text}\n".encode(), headers=[NOT_STORED, *headers])


def refuse(refused: Refused) -> OwnResponse:
    """Return the response to a malformed request, after which the connection is closed."""
    response = text_response(refused.status, refused.text)
    response.closes = True
    return response


async def send(response: OwnResponse, connection: Connection, *, is_head_request: bool = False) -> Sent:
    """Send a response.

    Args:
        response: the response.
        connection: the connection of the client.
        is_head_request: whether to send the head only.

    Raises:
        ConnectionResetError: the client does not receive it.
    """
    connection.must_close = connection.must_close or response.closes
    headers = [
        ("Content-Type", response.content_type),
        *_HEADERS,
        *response.headers,
        ("Content-Length", str(len(response.body))),
        ("Date", read_date()),
        ("Connection", "close" if connection.must_close else "keep-alive"),
    ]
    body = b"" if is_head_request else response.body
    connection.write(build_response_head(response.status, headers) + body)
    await drain_in_time(connection)
    return Sent(response.status, len(body))


async def drain_in_time(connection: Connection) -> None:
    """Wait until a client has received enough.

    Raises:
        ConnectionResetError: it does not, and the connection is closed.
    """
    if not connection.is_writing_paused:
        return
    try:
        async with asyncio.timeout(limits.CLIENT_IDLE_SECONDS):
            await connection.drain()
    except TimeoutError as error:
        connection.abort()
        raise ConnectionResetError("the client receives nothing") from error
