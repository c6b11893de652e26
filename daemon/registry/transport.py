"""HTTP requests with limits of size, safe redirects and rate limiting. Used by the registry client."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from daemon.network.addresses import AddressGuard, AddressRefused, Network
from daemon.network.http import BareSession, parse_retry_after
from daemon.registry.errors import InvalidResponse, RateLimited, TooSlow, Unreachable

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    """The `WWW-Authenticate` headers as a list, because headers joined by commas cannot be separated again."""
    body: bytes
    url: str
    network: Network
    """The network of the server that answered."""


class Transport:
    """Sends requests to registries and token servers, each over a new connection.

    Connections are not reused, because a host to which the operator refers may be forbidden to a server that refers
    to it. Certificates are verified. The environment variable `REQUESTS_CA_BUNDLE` adds private certificate
    authorities. The caller sets a deadline.

    Args:
        timeout: seconds to wait for a connection and for each part of a response.
        clock: returns the current moment in UTC.
    """

    def __init__(self, *, timeout: float, clock: Callable[[], datetime]) -> None:
        self._timeout = timeout
        self._clock = clock
        self._blocked_until: dict[str, datetime] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        follow: bool = False,
        named_by: Network | None = None,
    ) -> Response:
        """Send one request and read the response.

        The `Authorization` header is dropped when a redirect leads to another origin. Redirects from HTTPS to plain
        HTTP are refused, and so are redirects to networks to which the server may not refer.

        Args:
            method: the HTTP method.
            url: the full URL.
            limit: maximum size of the body in bytes.
            headers: additional headers.
            form: fields of a form to send.
            follow: whether to follow redirects.
            named_by: the network of the server that named the URL; None if the operator configured the URL.

        Raises:
            RateLimited: the status is 429, or the host's rate limit still applies, in which case nothing is sent.
            Unreachable: no response arrived in time, or the server failed.
            InvalidResponse: the response is too long, its redirect is invalid, or the URL is on a forbidden network.
        """
        sent = dict(headers or {})
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._exchange(method, url, sent, form, limit, named_by)
            if response.status not in _REDIRECTS or not follow:
                return response
            target = _find_redirect_target(response)
            if not same_origin(url, target):
                sent.pop("Authorization", None)
            url, named_by = target, response.network
        raise InvalidResponse(f"{_host(url)} redirects too often.")

    def _exchange(  # noqa: PLR0917 - all of them differ per request
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        limit: int,
        named_by: Network | None,
    ) -> Response:
        host = _host(url)
        self._require_not_rate_limited(host)
        guard = AddressGuard(urlsplit(url).hostname or "", named_by)
        try:
            guard.permit_host()
            with (
                BareSession(guard) as session,
                session.request(
                    method,
                    url,
                    # The digest is the hash of the bytes as stored, so they must not be compressed in transit.
                    headers={"Accept-Encoding": "identity", **headers},
                    data=form,
                    timeout=self._timeout,
                    stream=True,
                    # Plain HTTP is for nearby registries, which are not reached through the proxy of the environment.
                    proxies={"http": ""},
                ) as received,
            ):
                body = b"" if received.status_code in _REDIRECTS else _read_body(received.raw, limit, host)
        except AddressRefused as error:
            raise InvalidResponse(f"A registry may not refer to {error}.") from error
        except requests.Timeout as error:
            raise TooSlow(f"{host} did not answer within {self._timeout:g} s.") from error
        except (requests.RequestException, HTTPError, ValueError, OSError) as error:
            raise Unreachable(f"{host} {_describe_error(error)}.") from error
        response = Response(
            received.status_code,
            received.headers,
            tuple(received.raw.headers.getlist("WWW-Authenticate")),
            body,
            url,
            guard.network,
        )
        self._check_status(host, response)
        return response

    def _require_not_rate_limited(self, host: str) -> None:
        until = self._blocked_until.get(host)
        if until is not None and until > self._clock():
            raise RateLimited(host, (until - self._clock()).total_seconds())

    def _check_status(self, host: str, response: Response) -> None:
        if response.status == 429:
            now = self._clock()
            seconds = parse_retry_after(response.headers.get("Retry-After"), now)
            self._blocked_until[host] = now + timedelta(seconds=seconds)
            raise RateLimited(host, seconds)
        if response.status >= 500 and response.status != 501:
            raise Unreachable(f"{host} returned status {response.status}.")


def same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have the same scheme, host and port and so may receive the same credentials."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _find_redirect_target(response: Response) -> str:
    host = _host(response.url)
    try:
        target = urljoin(response.url, response.headers.get("Location", ""))
        scheme, hostname, _port = _origin(target)
    except ValueError as error:
        raise InvalidResponse(f"{host} redirects to an invalid URL.") from error
    if target == response.url or scheme not in {"http", "https"} or not hostname:
        raise InvalidResponse(f"{host} redirects to an invalid URL.")
    if scheme == "http" and urlsplit(response.url).scheme == "https":
        raise InvalidResponse(f"{host} redirects from HTTPS to plain HTTP, which is not allowed.")
    return target


def _read_body(raw: BaseHTTPResponse, limit: int, host: str) -> bytes:
    """Read a body in the parts in which it arrives, because reading a fixed size would block until it is complete."""
    body = bytearray()
    while chunk := raw.read1(_CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > limit:
            raise InvalidResponse(f"{host} sent more than {limit // 1024} KB.")
    return bytes(body)


def _describe_error(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "has a certificate that cannot be verified"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "cannot be reached"
    return f"broke off its response ({type(error).__name__})"
