"""HTTP as a registry client needs it: bounded in time and size, careful with redirects, patient with 429."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from daemon.registry.errors import BadAnswer, RateLimited, Unreachable

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
# Applies to each wait for the network; a body may trickle in for longer, but not for longer than this.
_BODY_SECONDS = 30.0
_DEFAULT_COOL_DOWN = 60.0
_LONGEST_COOL_DOWN = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    """Each ``WWW-Authenticate`` header on its own, for joined by commas they cannot be told apart."""
    body: bytes
    url: str


class _BareSession(requests.Session):
    """A session that adds nothing of its own to what it is told to send.

    The default one takes credentials from ``~/.netrc``, keeps cookies, and reads the body of a redirect to
    its end even where it was told not to follow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.auth = _as_is  # netrc is read only where there is no auth at all
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class Transport:
    """One HTTP session shared by all registries and token servers.

    Certificates are verified; the environment's ``REQUESTS_CA_BUNDLE`` names authorities of one's own.
    """

    def __init__(self, *, timeout: float, clock: Callable[[], datetime]) -> None:
        """Prepare a session; nothing is sent yet.

        Args:
            timeout: Seconds to wait for a connection and for each part of an answer.
            clock: The present time in UTC.
        """
        self._session = _BareSession()
        self._timeout = timeout
        self._clock = clock
        self._cool_downs: dict[str, datetime] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        limit: int,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        follow: bool = False,
    ) -> Answer:
        """Send one request and read at most ``limit`` bytes of the answer.

        Redirects are followed only if ``follow`` is set; ``Authorization`` stays behind when one leads to
        another origin, and none may lead from HTTPS to plain HTTP.

        Raises:
            RateLimited: on status 429, and without asking while that host's cool-down lasts.
            Unreachable: if no answer arrives in time, or the server fails.
            BadAnswer: if the answer is too long or redirects senselessly.
        """
        sent = dict(headers or {})
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._exchange(method, url, sent, form, limit)
            if answer.status not in _REDIRECTS or not follow:
                return answer
            target = _redirect_target(answer)
            if not same_origin(url, target):
                sent.pop("Authorization", None)
            url = target
        raise BadAnswer(f"{_host(url)} redirects in circles.")

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None, limit: int
    ) -> Answer:
        host = _host(url)
        self._wait_out(host)
        try:
            with self._session.request(
                method,
                url,
                # The digest is taken over the bytes as stored, so nobody may compress them on the way.
                headers={"Accept-Encoding": "identity", **headers},
                data=form,
                timeout=self._timeout,
                stream=True,
                # Plain HTTP is for registries near by; a proxy of the environment has no part in it.
                proxies={"http": ""},
            ) as response:
                body = b"" if response.status_code in _REDIRECTS else _read(response.raw, limit, host)
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise Unreachable(f"{host} {_explanation(error, self._timeout)}.") from error
        answer = Answer(
            response.status_code,
            response.headers,
            tuple(response.raw.headers.getlist("WWW-Authenticate")),
            body,
            url,
        )
        self._complain(host, answer)
        return answer

    def _wait_out(self, host: str) -> None:
        until = self._cool_downs.get(host)
        if until is not None and until > self._clock():
            raise RateLimited(host, (until - self._clock()).total_seconds())

    def _complain(self, host: str, answer: Answer) -> None:
        if answer.status == 429:
            now = self._clock()
            seconds = _retry_after(answer.headers.get("Retry-After"), now)
            self._cool_downs[host] = now + timedelta(seconds=seconds)
            raise RateLimited(host, seconds)
        if answer.status >= 500 and answer.status != 501:
            raise Unreachable(f"{host} answered with status {answer.status}.")


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs share scheme, host and port, so that credentials for one may be shown to the other."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _as_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _redirect_target(answer: Answer) -> str:
    host = _host(answer.url)
    try:
        target = urljoin(answer.url, answer.headers.get("Location", ""))
        scheme, hostname, _port = _origin(target)
    except ValueError as error:
        raise BadAnswer(f"{host} redirects to an invalid address.") from error
    if target == answer.url or scheme not in {"http", "https"} or not hostname:
        raise BadAnswer(f"{host} redirects to an invalid address.")
    if scheme == "http" and urlsplit(answer.url).scheme == "https":
        raise BadAnswer(f"{host} redirects from HTTPS to plain HTTP, which is not followed.")
    return target


def _read(raw: BaseHTTPResponse, limit: int, host: str) -> bytes:
    """Read a body in whatever pieces arrive: asking for a fixed size would wait for it, however slow."""
    deadline = time.monotonic() + _BODY_SECONDS
    body = bytearray()
    while chunk := raw.read1(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > limit:
            raise BadAnswer(f"{host} answered with more than {limit // 1024} KB.")
        if time.monotonic() > deadline:
            raise Unreachable(f"{host} took longer than {_BODY_SECONDS:.0f} s to send its answer.")
    return bytes(body)


def _explanation(error: Exception, timeout: float) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "has no certificate that can be verified"
    if isinstance(error, requests.exceptions.Timeout):
        return f"did not answer within {timeout:g} s"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "cannot be reached"
    return f"broke off its answer ({type(error).__name__})"


def _retry_after(header: str | None, now: datetime) -> float:
    """Read ``Retry-After``, seconds or a date, and bound it: a registry must not silence us for good."""
    return min(max(_asked_seconds(header or "", now), 1.0), _LONGEST_COOL_DOWN)


def _asked_seconds(header: str, now: datetime) -> float:
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return _DEFAULT_COOL_DOWN
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
