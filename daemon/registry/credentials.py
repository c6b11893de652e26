"""Registry credentials, read from a Docker ``config.json``."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from daemon.registry.errors import WrongCredentials
from portal.rules.references import InvalidReference, parse_registry


class CredentialsError(WrongCredentials):
    """The credentials file cannot be used; the message says what to change and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What one registry is shown: a user with a password, or an identity token in their place."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)

    def for_engine(self) -> dict[str, str]:
        """The form in which a Docker engine is given it for a pull."""
        if self.identity_token:
            return {"identitytoken": self.identity_token}
        return {"username": self.username, "password": self.password}

    def basic(self) -> str:
        """The value of an ``Authorization`` header for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


class Credentials:
    """The credentials of all registries; an unknown registry is asked anonymously."""

    def __init__(
        self, by_registry: Mapping[str, Credential] | None = None, kept_elsewhere: Iterable[str] = ()
    ) -> None:
        """Take credentials by normalized registry, such as ``ghcr.io`` or ``docker.io``.

        Args:
            by_registry: What is known.
            kept_elsewhere: Registries whose credentials only a credential helper could tell.
        """
        self._by_registry = dict(by_registry or {})
        self._kept_elsewhere = frozenset(kept_elsewhere)

    def __repr__(self) -> str:
        """Name the registries only."""
        return f"Credentials({sorted(self._by_registry)})"

    def for_registry(self, registry: str) -> Credential | None:
        """The credential for a normalized registry, or None for anonymous access.

        Raises:
            CredentialsError: if a credential helper keeps it, which a background process cannot unlock.
        """
        if registry in self._kept_elsewhere:
            raise CredentialsError(
                f"The credentials of {registry} are kept by a credential helper, which Flotilla does not run."
                " Point REGISTRY_CONFIG at a config.json with a plain entry for it in auths."
            )
        return self._by_registry.get(registry)

    @classmethod
    def from_docker_config(cls, path: Path) -> Self:
        """Read the ``auths`` of a Docker ``config.json``, as ``docker login`` writes it; no file, no credentials.

        Raises:
            CredentialsError: if the file cannot be read or is malformed.
        """
        config = _read(path)
        auths, helpers = config.get("auths") or {}, config.get("credHelpers") or {}
        if not isinstance(auths, dict) or not isinstance(helpers, dict):
            raise CredentialsError(f"{path}: auths and credHelpers must be objects keyed by registry.")
        # Where a helper keeps the secret, docker login leaves an empty entry behind.
        kept_elsewhere = [*helpers, *(key for key, entry in auths.items() if entry == {})]
        return cls(
            {_registry_of(key, path): _credential(key, entry, path) for key, entry in auths.items() if entry},
            [_registry_of(key, path) for key in kept_elsewhere],
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        # The decoder's own error carries the whole document, secrets included.
        raise CredentialsError(f"{path} is not valid JSON.") from None
    if not isinstance(config, dict):
        raise CredentialsError(f"{path} must hold a JSON object.")
    return config


def _registry_of(key: str, path: Path) -> str:
    # Docker Hub's entry is keyed by the URL of an API long gone: https://index.docker.io/v1/
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    try:
        registry = parse_registry(host)
    except InvalidReference:
        registry = None
    if registry is None:
        raise CredentialsError(f"{path}: {key!r} in auths is not a registry.")
    return registry


def _credential(key: str, entry: object, path: Path) -> Credential:
    if not isinstance(entry, dict):
        raise CredentialsError(f"{path}: the entry of {key} in auths must be an object.")
    username, password = entry.get("username") or "", entry.get("password") or ""
    token = entry.get("identitytoken") or None
    if entry.get("auth"):
        username, password = _decoded(key, entry["auth"], path)
    if not all(isinstance(value, str) for value in (username, password, token or "")):
        raise CredentialsError(f"{path}: the entry of {key} in auths must hold strings.")
    if not token and not (username and password):
        raise CredentialsError(f"{path}: the entry of {key} in auths has no user and password.")
    return Credential(username, password, token)


def _decoded(key: str, auth: object, path: Path) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise CredentialsError(f"{path}: auth of {key} must be the base64 of user:password.")
    return username, password.rstrip("\0")  # old clients pad with zero bytes
