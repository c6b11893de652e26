"""Fixtures for recreation: a container with every setting, and two images with different defaults."""

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.full_container import (
    NEW_DEFAULTS,
    OLD_DEFAULTS,
    Resources,
    build_image,
    provide_resources,
)


@pytest.fixture(scope="session")
def old_image(engine: docker.APIClient, snapshot_image: str) -> dict[str, Any]:
    """Image from which the container was created, as inspected."""
    return build_image(engine, snapshot_image, OLD_DEFAULTS)


@pytest.fixture(scope="session")
def new_image(engine: docker.APIClient, snapshot_image: str) -> dict[str, Any]:
    """Image of the replacement, as inspected; every default differs from the old image."""
    return build_image(engine, snapshot_image, NEW_DEFAULTS)


@pytest.fixture
def resources(engine: docker.APIClient) -> Iterator[Resources]:
    """Networks and volumes to which the container refers."""
    with provide_resources(engine) as names:
        yield names


@pytest.fixture
def containers(engine: docker.APIClient, resources: Resources) -> Iterator[Containers]:
    """Containers of one test, removed at its end."""
    created = Containers(engine)
    yield created
    created.remove()
