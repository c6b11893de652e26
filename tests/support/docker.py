"""The Docker engine of a test run. Used by the fixtures `docker_url` and `engine`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from demo.engine import existing_engine, running_engine

RUN_LABEL = "flotilla.test-run"


@contextmanager
def engine_for_tests(folder: Path) -> Iterator[str]:
    """Yield the URL of an engine: `FLOTILLA_TEST_DOCKER`, or a new engine for root, or the machine's engine.

    Raises:
        MissingRequirement: there is no engine and none can be started.
    """
    url = os.environ.get("FLOTILLA_TEST_DOCKER")
    if url is None and os.geteuid() != 0:
        url = existing_engine()
    if url is not None:
        yield url
    else:
        with running_engine(folder) as new_url:
            yield new_url


def remove_labelled(engine: docker.APIClient, run: str) -> None:
    """Remove the containers and images with the label of a run, and the volumes of these containers."""
    label = f"{RUN_LABEL}={run}"
    for container in engine.containers(all=True, filters={"label": label}):
        volumes = [mount["Name"] for mount in container["Mounts"] if mount["Type"] == "volume"]
        _remove_if_exists(engine.remove_container, container["Id"], force=True, v=True)
        for volume in volumes:
            _remove_if_exists(engine.remove_volume, volume)
    for image in engine.images(filters={"label": label}):
        _remove_if_exists(engine.remove_image, image["Id"], force=True)


def _remove_if_exists(remove: Any, name: str, **options: Any) -> None:
    try:
        remove(name, **options)
    except APIError as error:
        # 404: already removed; 409: being removed, or still in use by another container.
        if error.status_code not in {404, 409}:
            raise
