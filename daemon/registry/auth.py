"""Authentication at registries: parse the challenge of a 401 response and obtain a token. Used by the client."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from daemon.network.addresses import Network
from daemon.registry.credentials import Credential, Credentials
from daemon.registry.documents import parse_object
from daemon.registry.errors import InvalidResponse, WrongCredentials
from daemon.registry.transport import Response, Transport

_MAX_RESPONSE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
# The default of the token protocol, in seconds.
_DEFAULT_LIFETIME = 60
# Tokens are renewed this long before they expire, so that none expires during a request.
_RENEWAL_MARGIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Challenge:
    """An authentication challenge from a `WWW-Authenticate` header."""

    scheme: str
    parameters: Mapping[str, str]
    network: Network
    """The network of the registry, which limits where its token server may be."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: datetime


class Authenticator:
    """Creates `Authorization` headers for challenges and caches tokens until they expire.

    Args:
        transport: sends the requests to token servers.
        credentials: credentials by registry; registries without any are accessed anonymously.
        clock: returns the current moment in UTC.
    """

    def __init__(self, transport: Transport, credentials: Credentials, clock: Callable[[], datetime]) -> None:
        self._transport = transport
        self._credentials = credentials
        self._clock = clock
        self._tokens: dict[tuple[str, str, str], _Token] = {}

    def build_authorization(self, registry: str, repository: str, challenge: Challenge, *, renew: bool) -> str:
        """Return the `Authorization` header for a challenge.

        Args:
            registry: normalized name of the registry that sent the challenge; it selects the credential.
            repository: the repository to read.
            challenge: as returned by `choose_challenge`.
            renew: True if the registry refused the cached token.

        Raises:
            WrongCredentials: there is no usable credential, or it was refused.
            RegistryError: the token server gave no usable response.
        """
        credential = self._credentials.for_registry(registry)
        if challenge.scheme == "bearer":
            return f"Bearer {self._get_token(registry, repository, challenge, credential, renew=renew)}"
        if credential is None or not credential.password:
            raise WrongCredentials(
                f"{registry} requires a user and password. Add them to auths in the registry config.json."
            )
        return credential.to_basic_auth()

    def _get_token(
        self, registry: str, repository: str, challenge: Challenge, credential: Credential | None, *, renew: bool
    ) -> str:
        realm = challenge.parameters.get("realm", "")
        scope = challenge.parameters.get("scope") or f"repository:{repository}:pull"
        key = (registry, realm, scope)
        known = self._tokens.get(key)
        if known is None or renew or known.expires_at <= self._clock() + _RENEWAL_MARGIN:
            query = {"service": challenge.parameters.get("service", ""), "scope": scope}
            query = {name: value for name, value in query.items() if value}
            response = self._request_token(realm, query, credential, challenge.network)
            known = self._tokens[key] = self._parse_token(registry, response)
        return known.value

    def _request_token(
        self, realm: str, query: Mapping[str, str], credential: Credential | None, named_by: Network
    ) -> Response:
        if credential is not None and credential.identity_token:
            grant = {
                "grant_type": "refresh_token",
                "client_id": "flotilla",
                "refresh_token": credential.identity_token,
            }
            form = {**grant, **query}
            return self._transport.send("POST", realm, form=form, limit=_MAX_RESPONSE_BYTES, named_by=named_by)
        headers = {"Authorization": credential.to_basic_auth()} if credential else {}
        separator = "&" if urlsplit(realm).query else "?"
        url = f"{realm}{separator}{urlencode(query)}"
        return self._transport.send("GET", url, headers=headers, limit=_MAX_RESPONSE_BYTES, named_by=named_by)

    def _parse_token(self, registry: str, response: Response) -> _Token:
        if response.status in {401, 403}:
            if self._credentials.for_registry(registry):
                problem = f"The token server of {registry} refused the credentials"
            else:
                problem = f"{registry} does not allow anonymous access"
            raise WrongCredentials(f"{problem}: check auths in the registry config.json.")
        document = parse_object(response.body) or {}
        value = document.get("token") or document.get("access_token")
        if response.status != 200 or not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise InvalidResponse(f"The token server of {registry} returned no token (status {response.status}).")
        lifetime = document.get("expires_in")
        if not isinstance(lifetime, int) or not 0 < lifetime < 10**6:
            lifetime = _DEFAULT_LIFETIME
        return _Token(value, self._clock() + timedelta(seconds=lifetime))


def choose_challenge(response: Response) -> Challenge:
    """Choose the challenge of a 401 response to answer; tokens are preferred to passwords.

    Raises:
        InvalidResponse: the response has no supported challenge, or its token server does not use TLS although the
            registry does.
    """
    host = urlsplit(response.url).netloc
    challenges = [_parse_challenge(header, response.network) for header in response.challenges]
    offered = {challenge.scheme: challenge for challenge in challenges}
    chosen = offered.get("bearer") or offered.get("basic")
    if chosen is None:
        raise InvalidResponse(f"{host} requires an unsupported kind of authentication: {sorted(offered) or 'none'}.")
    if chosen.scheme == "bearer":
        _check_realm(chosen.parameters.get("realm", ""), response.url)
    return chosen


def _parse_challenge(header: str, network: Network) -> Challenge:
    scheme, _, parameters = header.strip().partition(" ")
    # The parser fails on an empty value without quotes.
    pairs = parse_keqv_list([item for item in parse_http_list(parameters) if item.partition("=")[2]])
    return Challenge(scheme.lower(), {name.lower(): value for name, value in pairs.items()}, network)


def _check_realm(realm: str, url: str) -> None:
    try:
        parts = urlsplit(realm)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise InvalidResponse(f"{urlsplit(url).netloc} does not name a valid token server.")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise InvalidResponse(f"{urlsplit(url).netloc} names a token server without TLS. No credentials were sent.")
