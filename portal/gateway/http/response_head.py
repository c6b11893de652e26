"""The head of a bot's response, and what it says about the body. Used by connections to bots and by forwarding."""

from __future__ import annotations

from dataclasses import dataclass

from portal.gateway.http.bodies import Body
from portal.rules.proxy_headers import Headers


@dataclass(slots=True)
class ResponseHead:
    """The head of a response, and the body that follows.

    Attributes:
        status: the status.
        headers: names and values as they were received.
        fields: the last value of each header, by its name in lower case.
        length: length of the body in bytes; None if the bot does not announce it.
        body: the body.
        ends_with_connection: whether only the end of the connection tells the end of the body.
    """

    status: int
    headers: Headers
    fields: dict[str, str]
    length: int | None
    body: Body
    ends_with_connection: bool


def build_head(status: int, headers: Headers, body: Body) -> ResponseHead:
    """Return a head.

    Args:
        status: the status.
        headers: names and values as they were received.
        body: the body that follows.
    """
    fields = {name.lower(): value for name, value in headers}
    length, coding = fields.get("content-length"), fields.get("transfer-encoding")
    is_chunked = coding is not None and coding.lower().rpartition(",")[2].strip() == "chunked"
    return ResponseHead(
        status,
        headers,
        fields,
        int(length) if length is not None and coding is None else None,
        body,
        ends_with_connection=length is None and not is_chunked,
    )
