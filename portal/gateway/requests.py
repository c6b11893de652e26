"""Requests of browsers as the gateway sees them, and the check of their form. Used by the handler of requests.

The check refuses what servers behind the gateway could interpret differently than the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from itertools import chain

from aiohttp import HttpVersion10, HttpVersion11
from aiohttp.web import BaseRequest

from portal.gateway.limits import MAX_HEADER_BYTES
from portal.rules import proxy_headers
from portal.rules.bot_hosts import comes_from_own_page, is_valid_host
from portal.rules.proxy_headers import Headers

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Refused(Exception):
    """The request is answered with a status and one line of text.

    Args:
        status: the status.
        text: what is wrong.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class BrowserRequest:
    """A request with its headers as they were received.

    Args:
        request: aiohttp's request, of which only raw values are used.
    """

    def __init__(self, request: BaseRequest) -> None:
        self.request = request
        self.method = request.method
        self.target = request.raw_path
        """Path and query as they were received."""
        self.headers = decode_headers(request.raw_headers)
        self._values: dict[str, list[str]] = {}
        for name, value in self.headers:
            self._values.setdefault(name.lower(), []).append(value)

    def values(self, name: str) -> Sequence[str]:
        """Return all values of a header, given in lower case."""
        return self._values.get(name, ())

    @property
    def path(self) -> str:
        """The path without the query, as it was received."""
        return self.target.partition("?")[0]

    @property
    def host(self) -> str:
        """The host for which the request is meant."""
        return self._values["host"][0]

    @property
    def is_safe(self) -> bool:
        """Whether the method asks for no change."""
        return self.method in _SAFE_METHODS

    @property
    def is_upgrade(self) -> bool:
        """Whether the browser wants to open a WebSocket."""
        if "upgrade" not in self._values:
            return False
        wanted = {token.strip().lower() for value in self.values("upgrade") for token in value.split(",")}
        return wanted == {"websocket"} and "upgrade" in proxy_headers.list_nominated(self.headers)

    @property
    def is_navigation(self) -> bool:
        """Whether a person opens a page."""
        return self.method in {"GET", "HEAD"} and self._expects_page

    @property
    def is_form(self) -> bool:
        """Whether a person sends a form, whose answer the browser shows as a page."""
        return self.method == "POST" and self._expects_page

    @property
    def _expects_page(self) -> bool:
        if self.is_upgrade:
            return False
        modes = self.values("sec-fetch-mode")
        return list(modes) == ["navigate"] if modes else any("text/html" in value for value in self.values("accept"))

    @property
    def content_length(self) -> int | None:
        """The announced length of the body; None if there is none, or if it is sent in chunks."""
        lengths = self.values("content-length")
        return int(lengths[0]) if lengths else None

    @property
    def has_body(self) -> bool:
        """Whether a body follows the headers."""
        return bool(self.content_length) or bool(self.values("transfer-encoding"))

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for permission to send the body."""
        return bool(self.values("expect"))

    def find_cookie(self, name: str) -> str | None:
        """Return the value of the first cookie with this name."""
        return proxy_headers.find_cookie(self.values("cookie"), name)


def decode_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return headers as text. Bytes that are not UTF-8 are replaced."""
    return [(name.decode("utf-8", "replace"), value.decode("utf-8", "replace")) for name, value in raw]


def check_form(browser: BrowserRequest) -> None:
    """Check version, method, host and framing.

    Raises:
        Refused: the request is malformed or not supported.
    """
    version = browser.request.version
    if version not in {HttpVersion10, HttpVersion11}:
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Use HTTP/1.1.")
    if browser.method not in METHODS:
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "This method is not supported.")
    if sum(map(len, chain.from_iterable(browser.headers))) > MAX_HEADER_BYTES:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers of this request are too large.")
    if not proxy_headers.are_well_formed(browser.headers):
        raise Refused(HTTPStatus.BAD_REQUEST, "A header contains an invalid character.")
    hosts = browser.values("host")
    if len(hosts) != 1 or not is_valid_host(hosts[0]):
        raise Refused(HTTPStatus.BAD_REQUEST, "The request needs one valid Host header.")
    _check_framing(browser)


def _check_framing(browser: BrowserRequest) -> None:
    lengths, codings = browser.values("content-length"), browser.values("transfer-encoding")
    is_ambiguous = len(lengths) + len(codings) > 1
    if is_ambiguous or not all(length.isascii() and length.isdigit() for length in lengths):
        raise Refused(HTTPStatus.BAD_REQUEST, "The length of the body is ambiguous.")
    if codings and (codings[0].lower() != "chunked" or browser.request.version is HttpVersion10):
        raise Refused(HTTPStatus.BAD_REQUEST, "The only supported transfer encoding is chunked.")
    if browser.is_upgrade and browser.has_body:
        raise Refused(HTTPStatus.BAD_REQUEST, "A request for a WebSocket has no body.")
    if any(value.lower() != "100-continue" for value in browser.values("expect")):
        raise Refused(HTTPStatus.EXPECTATION_FAILED, "The only supported expectation is 100-continue.")


def check_origin(browser: BrowserRequest, own_origin: str) -> None:
    """Check that a request that may change something comes from a page of the bot.

    Raises:
        Refused: the request comes from another site, such as another bot.
    """
    if browser.is_safe and not browser.is_upgrade:
        return
    sites = browser.values("sec-fetch-site")
    if not comes_from_own_page(sites, browser.values("origin"), own_origin):
        raise Refused(HTTPStatus.FORBIDDEN, "This request came from another site. Open the bot's page and try again.")
