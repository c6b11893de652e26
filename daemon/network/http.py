"""HTTP connections that obey deadlines, for the library requests. Used by everything that sends requests with it."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from daemon.network.addresses import AddressGuard
from daemon.network.deadlines import connect, watch

_DEFAULT_RETRY_AFTER = 60.0
_MAX_RETRY_AFTER = 6 * 3600.0


class _PlainConnection(HTTPConnection):
    """A connection that obeys the deadlines of the thread that uses it, during the handshake of TLS, too."""

    def __init__(self, *arguments: Any, guard: AddressGuard | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._guard = guard

    def _new_conn(self) -> socket.socket:
        guard = self._guard
        try:
            connection = connect(self._dns_host, self.port, self.timeout, guard.permit if guard else None)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            ) from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        if guard is not None:
            guard.record(connection.getpeername()[0])
        return connection

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        """Begin a request."""
        if self.sock is not None:  # kept alive after an earlier exchange, with an earlier deadline
            watch(self.sock)
        super().putrequest(*arguments, **options)


class _TLSConnection(_PlainConnection, HTTPSConnection):
    """The same with TLS."""


class DeadlineAdapter(HTTPAdapter):
    """An adapter whose connections obey the deadlines of the thread that uses them.

    Args:
        guard: checks the addresses of a host before the connection. It does not check the address of a proxy, which
            the environment names.
    """

    def __init__(self, guard: AddressGuard | None = None) -> None:
        self._guard = guard
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool of a request."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        kind = _TLSConnection if pool.scheme == "https" else _PlainConnection
        pool.ConnectionCls = partial(kind, guard=None if pool.proxy else self._guard)
        return pool


class BareSession(requests.Session):
    """A session that sends only what the caller passes, over connections that obey deadlines.

    The default session reads credentials from `~/.netrc`, stores cookies, and reads the whole body of a redirect even
    if it does not follow it.

    Args:
        guard: checks the addresses of the hosts.
    """

    def __init__(self, guard: AddressGuard) -> None:
        super().__init__()
        self.mount("https://", DeadlineAdapter(guard))
        self.mount("http://", DeadlineAdapter(guard))
        self.auth = _keep_unchanged  # requests reads ~/.netrc only if `auth` is not set
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: redirects are not followed."""
        return None


def parse_retry_after(header: str | None, now: datetime) -> float:
    """Return the seconds of a `Retry-After` header within bounds, so that a server cannot demand to wait forever."""
    return min(max(_parse_seconds(header or "", now), 1.0), _MAX_RETRY_AFTER)


def _parse_seconds(header: str, now: datetime) -> float:
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return _DEFAULT_RETRY_AFTER
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


def _keep_unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
