"""Complete descriptions of containers, sufficient to create them again. Used by updates and adoption."""

from collections.abc import Iterator
from typing import Any

import docker
from docker.errors import ImageNotFound, NotFound

from daemon.errors import OperationFailed

# Settings whose value may be `container:<id>`: the namespace of another container.
SHARED_NAMESPACES = ("NetworkMode", "IpcMode", "PidMode")
_CONTAINER_MODE = "container:"


class CannotRecreate(OperationFailed):
    """The container cannot be created again faithfully; the message says why."""


def capture(engine: docker.APIClient, container_id: str) -> dict[str, Any]:
    """Return the engine's descriptions of a container and its image.

    Returns:
        A JSON-able dict: `container` and `image`, each as inspected, and `container_names`, which maps the ids of
        containers whose namespaces or volumes this one shares to their names. An id changes when the other
        container is updated; its name does not.

    Raises:
        CannotRecreate: the container was created with `--rm`, or its image or a container it shares with is gone.
        NotFound: there is no such container.
    """
    container = engine.inspect_container(container_id)
    if container["HostConfig"].get("AutoRemove"):
        raise CannotRecreate(
            f"Container {container['Name'].lstrip('/')} was started with --rm: the engine removes it and its"
            " anonymous volumes as soon as it stops. Start it again without --rm first."
        )
    try:
        image = engine.inspect_image(container["Image"])  # type: ignore[no-untyped-call]
    except ImageNotFound as error:
        raise CannotRecreate(
            f"Image {container['Image']} of container {container['Name'].lstrip('/')} is no longer on the node."
            " Without the image, its defaults cannot be told from settings made by hand. Pull the image again first."
        ) from error
    names = {other: _read_name(engine, other) for other in _shared_containers(container["HostConfig"])}
    return {"container": container, "image": image, "container_names": names}


def shared_container(mode: str) -> str | None:
    """Return the container whose namespace a mode such as `container:<id>` shares, or None for any other mode."""
    return mode.removeprefix(_CONTAINER_MODE) if mode.startswith(_CONTAINER_MODE) else None


def replace_ids_with_names(host_config: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a copy of a host configuration that refers to other containers by name."""
    named = dict(host_config)
    for key in SHARED_NAMESPACES:
        if other := shared_container(named.get(key) or ""):
            named[key] = _CONTAINER_MODE + names.get(other, other)
    if named.get("VolumesFrom"):
        sources = (entry.partition(":") for entry in named["VolumesFrom"])
        named["VolumesFrom"] = [names.get(other, other) + colon + mode for other, colon, mode in sources]
    return named


def _shared_containers(host_config: dict[str, Any]) -> Iterator[str]:
    for key in SHARED_NAMESPACES:
        if other := shared_container(host_config.get(key) or ""):
            yield other
    for entry in host_config.get("VolumesFrom") or []:
        yield entry.partition(":")[0]


def _read_name(engine: docker.APIClient, container: str) -> str:
    try:
        return str(engine.inspect_container(container)["Name"]).lstrip("/")
    except NotFound as error:
        raise CannotRecreate(
            f"It shares a namespace or volumes with container {container}, which is gone. Create it again by hand."
        ) from error
