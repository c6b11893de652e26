"""The headers of a request, interpreted once. Used by requests of browsers.

Browsers repeat their headers, apart from the request line. What follows from the headers alone is kept for those that
were seen last, because to interpret them takes a sixth of the time of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import chain

from portal.gateway.http.heads import decode_headers
from portal.rules import proxy_headers
from portal.rules.proxy_headers import Headers

_MAX_KEPT = 512
_MAX_KEPT_BYTES = 4 * 1024
"""How many headers of requests are kept, and their size."""


class RequestHeaders:
    """The headers of a request. Several requests may share them, so nothing changes them.

    Args:
        fields: names and values as they were received, in their order.
    """

    def __init__(self, fields: Headers) -> None:
        self.fields = fields
        self._values: dict[str, list[str]] = {}
        for name, value in fields:
            self._values.setdefault(name.lower(), []).append(value)

    def values(self, name: str) -> Sequence[str]:
        """Return all values of a header, given in lower case."""
        return self._values.get(name, ())

    @cached_property
    def size(self) -> int:
        """Length of all names and values together."""
        return sum(map(len, chain.from_iterable(self.fields)))

    @cached_property
    def is_well_formed(self) -> bool:
        """Whether all names are tokens, and their values have no control characters except tabs."""
        return proxy_headers.are_well_formed(self.fields)

    @cached_property
    def for_bot(self) -> Headers:
        """What passes to the bot.

        Raises:
            MalformedRequest: a header that must be unique occurs several times.
        """
        cookies = proxy_headers.filter_cookies(self.values("cookie"))
        return proxy_headers.select_request_headers(self.fields) + ([("Cookie", cookies)] if cookies else [])


def read_headers(parts: Sequence[bytes]) -> RequestHeaders:
    """Return the headers of a request.

    Args:
        parts: names and values in turn.

    Raises:
        ValueError: a part contains a line break.
    """
    if sum(map(len, parts)) > _MAX_KEPT_BYTES:
        return RequestHeaders(decode_headers(parts))
    return _read_kept(tuple(parts))


@lru_cache(_MAX_KEPT)
def _read_kept(parts: tuple[bytes, ...]) -> RequestHeaders:
    return RequestHeaders(decode_headers(parts))
