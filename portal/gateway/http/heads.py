"""The text form of the heads of requests and responses. Used where one is sent, to a bot or to a browser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from portal.rules.proxy_headers import Headers

_REASONS = {status.value: status.phrase for status in HTTPStatus}


def build_request_head(method: str, target: str, headers: Headers) -> bytes:
    """Return the head of a request.

    Raises:
        ValueError: a part contains a line break.
    """
    return _build(f"{method} {target} HTTP/1.1\r\n", headers)


def build_response_head(status: int, headers: Headers) -> bytes:
    """Return the head of a response.

    Raises:
        ValueError: a part contains a line break.
    """
    return _build(f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n", headers)


def decode_headers(parts: Sequence[bytes], errors: str = "replace") -> Headers:
    """Return headers as text, without spaces around values.

    Args:
        parts: names and values in turn.
        errors: what becomes of bytes that are not UTF-8. `surrogateescape` lets them pass through the gateway.

    Raises:
        ValueError: a part contains a line break.
    """
    # Joined, because to decode and split one text is much faster than to decode many.
    text = b"\n".join(parts).decode("utf-8", errors)
    fields = text.split("\n") if parts else []
    if len(fields) != len(parts):
        raise ValueError("a header contains a line break")
    values = fields[1::2]
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        values = [value.rstrip(" \t") for value in values]
    return list(zip(fields[::2], values, strict=True))


class _Clock:
    """The current time as headers write it, which changes once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def read(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


read_date = _Clock().read
"""Returns the value of the header `Date`."""


def _build(first_line: str, headers: Headers) -> bytes:
    text = "".join([first_line, *[f"{name}: {value}\r\n" for name, value in headers], "\r\n"])
    # All names and values were checked where they came in. A line that one of them adds would be another header.
    if text.count("\n") != len(headers) + 2 or text.count("\r") != len(headers) + 2:
        raise ValueError("a header contains a line break")
    return text.encode("utf-8", "surrogateescape")
