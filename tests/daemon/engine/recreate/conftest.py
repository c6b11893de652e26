"""A container on which everything is set, and two images to move it between."""

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.everything import NEW_DEFAULTS, OLD_DEFAULTS, Surroundings, image_with, surroundings


@pytest.fixture(scope="session")
def old_image(engine: docker.APIClient, snapshot_image: str) -> dict[str, Any]:
    """The image the container was created from, as inspected."""
    return image_with(engine, snapshot_image, OLD_DEFAULTS)


@pytest.fixture(scope="session")
def new_image(engine: docker.APIClient, snapshot_image: str) -> dict[str, Any]:
    """The image it moves to, as inspected; every default differs."""
    return image_with(engine, snapshot_image, NEW_DEFAULTS)


@pytest.fixture
def around(engine: docker.APIClient) -> Iterator[Surroundings]:
    """Networks and volumes that the container refers to."""
    with surroundings(engine) as names:
        yield names


@pytest.fixture
def containers(engine: docker.APIClient, around: Surroundings) -> Iterator[Containers]:
    """Makes containers and removes them."""
    made = Containers(engine)
    yield made
    made.remove()
