"""Registry credentials, read from a Docker ``config.json``."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from daemon.registry.errors import WrongCredentials
from portal.rules.references import InvalidReference, parse_registry

_OF_WEB_LOGIN = {"v1/access-token", "v1/refresh-token"}
"""What `docker login` keeps beside the credentials of Docker Hub for itself; no registry takes it as a password."""


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
        self,
        by_registry: Mapping[str, Credential] | None = None,
        unusable: Mapping[str, str] | None = None,
        broken: str | None = None,
    ) -> None:
        """Take credentials by normalized registry, such as ``ghcr.io`` or ``docker.io``.

        Args:
            by_registry: What is known.
            unusable: Registries whose credentials cannot be used, and why.
            broken: Why nothing is known of any registry.
        """
        self._by_registry = dict(by_registry or {})
        self._unusable = dict(unusable or {})
        self._broken = broken

    def __repr__(self) -> str:
        """Name the registries only."""
        return f"Credentials({sorted(self._by_registry)})"

    def for_registry(self, registry: str) -> Credential | None:
        """The credential for a normalized registry, or None for anonymous access.

        Raises:
            CredentialsError: if the file, or its entry for this registry, cannot be used; for one that a credential
                helper keeps could not be unlocked by a background process.
        """
        complaint = self._broken or self._unusable.get(registry)
        if complaint is not None:
            raise CredentialsError(complaint)
        return self._by_registry.get(registry)

    @classmethod
    def from_docker_config(cls, path: Path) -> Self:
        """Read the ``auths`` of a Docker ``config.json``, as ``docker login`` writes it; no file, no credentials.

        Nothing is raised for a file that cannot be used: whoever needs one of its entries is told, so that an odd
        entry is the trouble of its own registry only.
        """
        try:
            auths, helpers = _read(path)
        except CredentialsError as error:
            return cls(broken=str(error))
        known: dict[str, Credential] = {}
        unusable: dict[str, str] = {}
        for key, entry in [*auths.items(), *((key, {}) for key in helpers)]:
            registry = _registry_of(key)
            if registry is None:  # an image can be in no such registry
                continue
            try:
                known[registry] = _credential(registry, key, entry, path)
            except CredentialsError as error:
                unusable[registry] = str(error)
        return cls(known, unusable)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file says of registries: their entries, and the helpers that keep the credentials of some."""
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        # The decoder's own error carries the whole document, secrets included.
        raise CredentialsError(f"{path} is not valid JSON.") from None
    if not isinstance(config, dict):
        raise CredentialsError(f"{path} must hold a JSON object.")
    auths, helpers = config.get("auths") or {}, config.get("credHelpers") or {}
    if not isinstance(auths, dict) or not isinstance(helpers, dict):
        raise CredentialsError(f"{path}: auths and credHelpers must be objects keyed by registry.")
    return auths, helpers


def _registry_of(key: str) -> str | None:
    # Docker Hub's entry is keyed by the URL of an API long gone: https://index.docker.io/v1/
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    if path in _OF_WEB_LOGIN:
        return None
    try:
        return parse_registry(host)
    except InvalidReference:
        return None


def _credential(registry: str, key: str, entry: object, path: Path) -> Credential:
    if entry == {}:  # where a helper keeps the secret, docker login leaves an empty entry behind
        raise CredentialsError(
            f"The credentials of {registry} are kept by a credential helper, which Flotilla does not run."
            " Point REGISTRY_CONFIG at a config.json with a plain entry for it in auths."
        )
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
