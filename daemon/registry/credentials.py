"""Registry credentials, read from a Docker ``config.json``."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from portal.rules.references import InvalidReference, parse_registry


class CredentialsError(Exception):
    """The credentials file cannot be used; the message says what to change and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What one registry is shown: a user with a password, or an identity token in their place."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str | None = field(default=None, repr=False)

    def basic(self) -> str:
        """The value of an ``Authorization`` header for basic authentication."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


class Credentials:
    """The credentials of all registries; an unknown registry is asked anonymously."""

    def __init__(self, by_registry: Mapping[str, Credential] | None = None) -> None:
        """Take credentials by normalized registry, such as ``ghcr.io`` or ``docker.io``."""
        self._by_registry = dict(by_registry or {})

    def __repr__(self) -> str:
        """Name the registries only."""
        return f"Credentials({sorted(self._by_registry)})"

    def for_registry(self, registry: str) -> Credential | None:
        """The credential for a normalized registry, or None for anonymous access."""
        return self._by_registry.get(registry)

    @classmethod
    def from_docker_config(cls, path: Path) -> Self:
        """Read the ``auths`` of a Docker ``config.json``, as ``docker login`` writes it.

        Raises:
            CredentialsError: if the file cannot be read, is malformed or defers to a credential helper,
                which a background process cannot unlock.
        """
        config = _read(path)
        if config.get("credsStore") or config.get("credHelpers"):
            raise CredentialsError(
                f"{path} defers to a credential helper (credsStore or credHelpers), which Flotilla does not"
                " run. Give it a config.json of its own with plain entries in auths."
            )
        auths = config.get("auths", {})
        if not isinstance(auths, dict):
            raise CredentialsError(f"{path}: auths must be an object keyed by registry.")
        return cls({_registry_of(key, path): _credential(key, entry, path) for key, entry in auths.items()})


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
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
