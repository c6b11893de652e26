"""Answering a registry's 401: the challenge of the very URL says who hands out what to show."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from daemon.registry.credentials import Credential, Credentials
from daemon.registry.errors import BadAnswer, WrongCredentials
from daemon.registry.transport import Answer, Transport

_TOKEN_LIMIT = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
# What the token protocol says when the server does not.
_DEFAULT_LIFETIME = 60
# A token that expires on the way is of no use.
_MARGIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a registry offered."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: datetime


class Authenticator:
    """Turns challenges into ``Authorization`` headers; tokens are kept until they expire."""

    def __init__(self, transport: Transport, credentials: Credentials, clock: Callable[[], datetime]) -> None:
        """Use ``credentials`` where a registry has some, anonymous access elsewhere."""
        self._transport = transport
        self._credentials = credentials
        self._clock = clock
        self._tokens: dict[tuple[str, str, str], _Token] = {}

    def authorization(self, registry: str, repository: str, challenge: Challenge, *, renew: bool) -> str:
        """The ``Authorization`` header that answers ``challenge``.

        Args:
            registry: Normalized registry the challenge came from; decides which credential is used.
            repository: What is to be read.
            challenge: As chosen by `choose`.
            renew: True if the token given out before was refused.

        Raises:
            WrongCredentials: if there are none that fit, or they were refused.
            RegistryError: if the token server gives no usable answer.
        """
        credential = self._credentials.for_registry(registry)
        if challenge.scheme == "bearer":
            return f"Bearer {self._token(registry, repository, challenge, credential, renew=renew)}"
        if credential is None or not credential.password:
            raise WrongCredentials(
                f"{registry} asks for a user and password; add them to auths in the registry config.json."
            )
        return credential.basic()

    def _token(
        self, registry: str, repository: str, challenge: Challenge, credential: Credential | None, *, renew: bool
    ) -> str:
        realm = challenge.parameters.get("realm", "")
        scope = challenge.parameters.get("scope") or f"repository:{repository}:pull"
        key = (registry, realm, scope)
        known = self._tokens.get(key)
        if known is None or renew or known.expires_at <= self._clock() + _MARGIN:
            asked = {"service": challenge.parameters.get("service", ""), "scope": scope}
            answer = self._ask(realm, {name: value for name, value in asked.items() if value}, credential)
            known = self._tokens[key] = self._read_token(registry, answer)
        return known.value

    def _ask(self, realm: str, asked: Mapping[str, str], credential: Credential | None) -> Answer:
        if credential is not None and credential.identity_token:
            grant = {
                "grant_type": "refresh_token",
                "client_id": "flotilla",
                "refresh_token": credential.identity_token,
            }
            return self._transport.send("POST", realm, form={**grant, **asked}, limit=_TOKEN_LIMIT)
        headers = {"Authorization": credential.basic()} if credential else {}
        joint = "&" if urlsplit(realm).query else "?"
        return self._transport.send("GET", f"{realm}{joint}{urlencode(asked)}", headers=headers, limit=_TOKEN_LIMIT)

    def _read_token(self, registry: str, answer: Answer) -> _Token:
        if answer.status in {401, 403}:
            known = self._credentials.for_registry(registry)
            raise WrongCredentials(
                f"The token server of {registry} refuses the credentials of the registry config.json."
                if known
                else f"{registry} refuses anonymous access; add credentials to auths in the registry config.json."
            )
        reply = _json(answer.body)
        value = reply.get("token") or reply.get("access_token")
        if answer.status != 200 or not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise BadAnswer(f"The token server of {registry} gave no token (status {answer.status}).")
        lifetime = reply.get("expires_in")
        if not isinstance(lifetime, int) or not 0 < lifetime < 10**6:
            lifetime = _DEFAULT_LIFETIME
        return _Token(value, self._clock() + timedelta(seconds=lifetime))


def choose(answer: Answer) -> Challenge:
    """Pick the challenge of a 401 to answer, a token in favour of a password.

    Raises:
        BadAnswer: if none can be answered, or its token server could be listened to although the
            registry cannot.
    """
    host = urlsplit(answer.url).netloc
    offered = {challenge.scheme: challenge for challenge in map(_parse, answer.challenges)}
    chosen = offered.get("bearer") or offered.get("basic")
    if chosen is None:
        raise BadAnswer(f"{host} asks for authentication in no way known here: {sorted(offered) or 'none'}.")
    if chosen.scheme == "bearer":
        _check_realm(chosen.parameters.get("realm", ""), answer.url)
    return chosen


def _parse(header: str) -> Challenge:
    scheme, _, parameters = header.strip().partition(" ")
    pairs = parse_keqv_list([item for item in parse_http_list(parameters) if "=" in item])
    return Challenge(scheme.lower(), {name.lower(): value for name, value in pairs.items()})


def _check_realm(realm: str, url: str) -> None:
    try:
        parts = urlsplit(realm)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise BadAnswer(f"{urlsplit(url).netloc} names no valid token server.")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        raise BadAnswer(f"{urlsplit(url).netloc} names a token server without TLS; credentials stay here.")


def _json(body: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}
