"""Images under test: find them on the engine, or pull them. Used by `flotilla conformance`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker
from docker.errors import ImageNotFound

from daemon.engine.client import pull
from daemon.registry.credentials import Credentials
from portal.rules.references import parse_reference


def require_image(engine: docker.APIClient, image: str) -> str:
    """Return the id of an image, which does not change when a tag moves. Pull the image if the engine lacks it.

    Pulls use the credentials of `docker login`.

    Raises:
        InvalidReference: the engine lacks it, and the text is not a reference.
        CredentialsError: the credentials of the registry cannot be used.
        PullFailed: the registry refused, or lacks the image.
        EngineUnreachable: the engine stopped answering.
    """
    try:
        found: dict[str, Any] = engine.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        reference = parse_reference(image)
        credential = Credentials.from_docker_config(Path.home() / ".docker" / "config.json").for_registry(
            reference.registry
        )
        pull(engine, str(reference), credential.to_engine_auth() if credential else None)
        found = engine.inspect_image(str(reference))  # type: ignore[no-untyped-call]
    return str(found["Id"])
