"""Registry credentials from a Docker `config.json`. Used by the registry client and for pulls."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from daemon.registry.errors import WrongCredentials
from portal.rules.references import InvalidReference, parse_registry

_WEB_LOGIN_PATHS = {"v1/access-token", "v1/refresh-token"}
"""Entries that `docker login` stores for Docker Hub's web login. Registries do not accept them as passwords."""


class CredentialsError(WrongCredentials):
    """The credentials file cannot be used. The message says what to change and contains no secrets."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential of one registry: a user and password, or an identity token."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)

    def to_engine_auth(self) -> dict[str, str]:
        """Return the credential in the form that Docker engines expect for a pull."""
        if self.identity_token:
            return {"identitytoken": self.identity_token}
        return {"username": self.username, "password": self.password}

    def to_basic_auth(self) -> str:
        """Return the value of an `Authorization` header for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


class Credentials:
    """The credentials of all registries.

    Args:
        by_registry: credentials by normalized registry, for example `ghcr.io` or `docker.io`.
        unusable: the reason why a registry's credential cannot be used, by normalized registry.
        broken: the reason why no credential can be used.
    """

    def __init__(
        self,
        by_registry: Mapping[str, Credential] | None = None,
        unusable: Mapping[str, str] | None = None,
        broken: str | None = None,
    ) -> None:
        self._by_registry = dict(by_registry or {})
        self._unusable = dict(unusable or {})
        self._broken = broken

    def __repr__(self) -> str:
        """Return the names of the registries, without secrets."""
        return f"Credentials({sorted(self._by_registry)})"

    def for_registry(self, registry: str) -> Credential | None:
        """Return the credential of a normalized registry, or None for anonymous access.

        Raises:
            CredentialsError: the file or its entry for this registry cannot be used. Entries of credential helpers
                cannot be used either, because a background process cannot unlock them.
        """
        problem = self._broken or self._unusable.get(registry)
        if problem is not None:
            raise CredentialsError(problem)
        return self._by_registry.get(registry)

    @classmethod
    def from_docker_config(cls, path: Path) -> Self:
        """Read the `auths` of a Docker `config.json` as written by `docker login`.

        A missing file means no credentials. Errors are not raised here but by `for_registry`, so that an invalid
        entry only affects its own registry.
        """
        try:
            auths, helpers = _read(path)
        except CredentialsError as error:
            return cls(broken=str(error))
        known: dict[str, Credential] = {}
        unusable: dict[str, str] = {}
        for key, entry in [*auths.items(), *((key, {}) for key in helpers)]:
            registry = _parse_key(key)
            if registry is None:  # no image reference can name this registry
                continue
            try:
                known[registry] = _parse_entry(registry, key, entry, path)
            except CredentialsError as error:
                unusable[registry] = str(error)
        return cls(known, unusable)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the `auths` and the `credHelpers` of the file."""
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        # The decoder's error contains the whole document, including secrets.
        raise CredentialsError(f"{path} is not valid JSON.") from None
    if not isinstance(config, dict):
        raise CredentialsError(f"{path} must contain a JSON object.")
    auths, helpers = config.get("auths") or {}, config.get("credHelpers") or {}
    if not isinstance(auths, dict) or not isinstance(helpers, dict):
        raise CredentialsError(f"{path}: auths and credHelpers must be objects keyed by registry.")
    return auths, helpers


def _parse_key(key: str) -> str | None:
    # The key of Docker Hub is the URL of an old API: https://index.docker.io/v1/
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    if path in _WEB_LOGIN_PATHS:
        return None
    try:
        return parse_registry(host)
    except InvalidReference:
        return None


def _parse_entry(registry: str, key: str, entry: object, path: Path) -> Credential:
    if entry == {}:  # `docker login` leaves an empty entry if a helper stores the secret
        raise CredentialsError(
            f"A credential helper stores the credentials of {registry}, but Flotilla does not run credential helpers."
            " Set REGISTRY_CONFIG to a config.json with a plain entry for this registry in auths."
        )
    if not isinstance(entry, dict):
        raise CredentialsError(f"{path}: the entry of {key} in auths must be an object.")
    username, password = entry.get("username") or "", entry.get("password") or ""
    token = entry.get("identitytoken") or None
    if entry.get("auth"):
        username, password = _decode_auth(key, entry["auth"], path)
    if not all(isinstance(value, str) for value in (username, password, token or "")):
        raise CredentialsError(f"{path}: the entry of {key} in auths must contain strings.")
    if not token and not (username and password):
        raise CredentialsError(f"{path}: the entry of {key} in auths has no user or password.")
    return Credential(username, password, token)


def _decode_auth(key: str, auth: object, path: Path) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise CredentialsError(f"{path}: auth of {key} must be the base64 of user:password.")
    return username, password.rstrip("\0")  # old clients pad the password with zero bytes
