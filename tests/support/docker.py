"""The Docker engine of a test run: one of our own where we may start one, else the one we are given."""

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
    """Give the address of an engine: `FLOTILLA_TEST_DOCKER`, else our own if we are root, else the machine's.

    Raises:
        MachineError: there is none and none can be started.
    """
    given = os.environ.get("FLOTILLA_TEST_DOCKER")
    if given is None and os.geteuid() != 0:
        given = existing_engine()
    if given is not None:
        yield given
    else:
        with running_engine(folder) as url:
            yield url


def remove_labelled(engine: docker.APIClient, run: str) -> None:
    """Remove the containers and images that carry the label of this run, and the volumes of those containers."""
    label = f"{RUN_LABEL}={run}"
    for container in engine.containers(all=True, filters={"label": label}):
        volumes = [mount["Name"] for mount in container["Mounts"] if mount["Type"] == "volume"]
        _gone(engine.remove_container, container["Id"], force=True, v=True)
        for volume in volumes:
            _gone(engine.remove_volume, volume)
    for image in engine.images(filters={"label": label}):
        _gone(engine.remove_image, image["Id"], force=True)


def _gone(remove: Any, name: str, **options: Any) -> None:
    try:
        remove(name, **options)
    except APIError as error:
        # 404: already gone; 409: the engine is removing it, or another container still uses it.
        if error.status_code not in {404, 409}:
            raise
