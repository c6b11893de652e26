"""Requests of browsers as the gateway sees them, and the check of their form. Used by the handler of requests.

The check refuses what servers behind the gateway could interpret differently than the gateway.
"""

from __future__ import annotations

from http import HTTPStatus

from portal.gateway.http.bodies import Body
from portal.gateway.http.connections import Connection
from portal.gateway.http.request_headers import RequestHeaders
from portal.gateway.limits import MAX_HEADER_BYTES, MAX_HEADERS, MAX_LINE_BYTES
from portal.rules import proxy_headers
from portal.rules.bot_hosts import comes_from_own_page, is_valid_host

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
TOO_LARGE = "This request is too large. If this happens again, delete the cookies of this site, then try again."
"""Pages of other bots can set cookies for all bots, so the person may not be the cause."""
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
        method: the method.
        target: path and query.
        version: the version of HTTP, such as `1.1`.
        headers: the headers.
        body: the body.
        connection: where the request comes from and the response goes to.
        keeps_connection: whether the client may send another request on the connection.
    """

    def __init__(
        self,
        *,
        method: str,
        target: str,
        version: str,
        headers: RequestHeaders,
        body: Body,
        connection: Connection,
        keeps_connection: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.body = body
        self.connection = connection
        self.keeps_connection = keeps_connection
        self.is_permission_sent = False
        """Whether the client was asked for the body that it announced."""
        self.is_answered = False
        """Whether a response has begun."""
        self.values = headers.values
        """Returns all values of a header, given in lower case."""

    @property
    def path(self) -> str:
        """The path without the query, as it was received."""
        return self.target.partition("?")[0]

    @property
    def host(self) -> str:
        """The host for which the request is meant."""
        return self.values("host")[0]

    @property
    def is_safe(self) -> bool:
        """Whether the method asks for no change."""
        return self.method in _SAFE_METHODS

    @property
    def is_upgrade(self) -> bool:
        """Whether the browser wants to open a WebSocket."""
        if not self.values("upgrade"):
            return False
        wanted = {token.strip().lower() for value in self.values("upgrade") for token in value.split(",")}
        return wanted == {"websocket"} and "upgrade" in proxy_headers.list_nominated(self.headers.fields)

    @property
    def is_navigation(self) -> bool:
        """Whether a person opens a page or submits a form, so that a page is the right answer."""
        if self.is_upgrade:
            return False
        modes = self.values("sec-fetch-mode")
        return list(modes) == ["navigate"] if modes else any("text/html" in value for value in self.values("accept"))

    @property
    def can_be_repeated(self) -> bool:
        """Whether a page may load the same address again, unlike after a form."""
        return self.method in {"GET", "HEAD"}

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
    def is_waiting_to_send(self) -> bool:
        """Whether the client waits for permission to send the body, which HTTP/1.0 does not know."""
        return bool(self.values("expect")) and self.version != "1.0" and not self.is_permission_sent

    def permit_body(self) -> None:
        """Ask a client that waits for permission to send the body.

        Raises:
            ConnectionResetError: the client is gone.
        """
        self.is_permission_sent = True
        self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def find_cookie(self, name: str) -> str | None:
        """Return the value of the first cookie with this name."""
        return proxy_headers.find_cookie(self.values("cookie"), name)


def check_form(browser: BrowserRequest) -> None:
    """Check version, method, host and framing.

    Raises:
        Refused: the request is malformed or not supported.
    """
    if browser.version not in {"1.0", "1.1"}:
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Use HTTP/1.1.")
    if browser.method not in METHODS:
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "This method is not supported.")
    _check_size(browser.headers)
    if not browser.headers.is_well_formed:
        raise Refused(HTTPStatus.BAD_REQUEST, "A header contains an invalid character.")
    hosts = browser.values("host")
    if len(hosts) != 1 or not is_valid_host(hosts[0]):
        raise Refused(HTTPStatus.BAD_REQUEST, "The request needs one valid Host header.")
    _check_framing(browser)


def _check_size(headers: RequestHeaders) -> None:
    has_large_field = headers.size > MAX_LINE_BYTES and any(
        len(name) + len(value) > MAX_LINE_BYTES for name, value in headers.fields
    )
    if headers.size > MAX_HEADER_BYTES or has_large_field:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
    if len(headers.fields) > MAX_HEADERS:
        raise Refused(HTTPStatus.BAD_REQUEST, "The request has too many headers.")


def _check_framing(browser: BrowserRequest) -> None:
    lengths, codings = browser.values("content-length"), browser.values("transfer-encoding")
    is_ambiguous = len(lengths) + len(codings) > 1
    if is_ambiguous or not all(length.isascii() and length.isdigit() for length in lengths):
        raise Refused(HTTPStatus.BAD_REQUEST, "The length of the body is ambiguous.")
    if codings and (codings[0].lower() != "chunked" or browser.version == "1.0"):
        raise Refused(HTTPStatus.BAD_REQUEST, "The only supported transfer encoding is chunked.")
    if browser.values("upgrade") and browser.has_body:
        raise Refused(HTTPStatus.BAD_REQUEST, "A request for another protocol has no body.")
    if any(value.lower() != "100-continue" for value in browser.values("expect")):
        raise Refused(HTTPStatus.EXPECTATION_FAILED, "The only supported expectation is 100-continue.")


def check_origin(browser: BrowserRequest, own_origin: str) -> None:
    """Check that a request comes from a page of the bot. Pages of other sites may only lead to a page.

    Browsers count the hosts of all bots as one site and send cookies between them. So pages of another bot must
    neither change anything nor load the bot's files as their own. Browsers without fetch metadata are only checked if
    the request may change something.

    Raises:
        Refused: the request comes from another site, such as another bot.
    """
    sites = browser.values("sec-fetch-site")
    if browser.is_safe and not browser.is_upgrade and (not sites or _leads_to_page(browser)):
        return
    if not comes_from_own_page(sites, browser.values("origin"), own_origin):
        raise Refused(HTTPStatus.FORBIDDEN, "This request came from another site. Open the bot's page and try again.")


def _leads_to_page(browser: BrowserRequest) -> bool:
    # A service worker of the bot that passes on the request for a page hides its destination.
    destinations = (["document"], ["empty"])
    return browser.values("sec-fetch-mode") == ["navigate"] and browser.values("sec-fetch-dest") in destinations
