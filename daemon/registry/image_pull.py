"""Pulling images of bots onto nodes, with the credentials of this installation. Used by all jobs that pull."""

from __future__ import annotations

from typing import Any

import docker
from docker.errors import ImageNotFound

from daemon.engine.client import PullFailed, pull
from daemon.registry.credentials import Credentials, CredentialsError
from portal.rules.references import parse_reference
from portal.settings import Settings


def pull_image(engine: docker.APIClient, settings: Settings, image: str) -> dict[str, Any]:
    """Pull an image, verify that the engine has it, and return the engine's description of it.

    Args:
        engine: the engine that pulls.
        settings: settings, for the credentials.
        image: `repository@digest`.

    Raises:
        PullFailed: the registry or the engine refused, the transfer broke, or the credentials cannot be read.
        EngineUnreachable: the engine stopped answering.
    """
    registry = parse_reference(image).registry
    try:
        credential = Credentials.from_docker_config(settings.registry_config).for_registry(registry)
    except CredentialsError as error:  # transient: an operator repairs the file
        raise PullFailed(f"Pulling {image} failed: {error}", transient=True) from error
    return pull(engine, image, credential.to_engine_auth() if credential else None)


def has_image(engine: docker.APIClient, image: str) -> bool:
    """Return whether an engine has an image."""
    try:
        engine.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True
