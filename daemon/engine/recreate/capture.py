"""Captures a container so fully that it can be created again, on another image or on its own."""

from collections.abc import Iterator
from typing import Any

import docker
from docker.errors import ImageNotFound, NotFound

from daemon.errors import OperationFailed

# Settings that may say "share this with another container", as `container:<id>`.
SHARED_NAMESPACES = ("NetworkMode", "IpcMode", "PidMode")
_SHARES = "container:"


class CannotRecreate(OperationFailed):
    """The container is of a kind that cannot be created again faithfully; the text says why."""


def capture(engine: docker.APIClient, container_id: str) -> dict[str, Any]:
    """Describe a container and its image as the engine sees them.

    Returns:
        A JSON-able dict: `container` and `image`, each as inspected, and `container_names`, which maps the ids of
        containers that this one shares something with to their names, because an id does not outlive an update
        of the other one.

    Raises:
        CannotRecreate: it was made with `--rm`, or its image or a container it shares something with is gone.
        NotFound: there is no such container.
    """
    container = engine.inspect_container(container_id)
    if container["HostConfig"].get("AutoRemove"):
        raise CannotRecreate(
            f"Container {container['Name'].lstrip('/')} was started with --rm: the engine removes it with its"
            " anonymous volumes as soon as it stops. Start it again without --rm first."
        )
    try:
        image = engine.inspect_image(container["Image"])  # type: ignore[no-untyped-call]
    except ImageNotFound as error:
        raise CannotRecreate(
            f"Image {container['Image']} of container {container['Name'].lstrip('/')} is no longer on the node, so"
            " what came from it cannot be told from what was set by hand. Pull the image again first."
        ) from error
    names = {other: _name_of(engine, other) for other in _other_containers(container["HostConfig"])}
    return {"container": container, "image": image, "container_names": names}


def shared_container(mode: str) -> str | None:
    """Return the container that a mode such as `container:<id>` shares a namespace with."""
    return mode.removeprefix(_SHARES) if mode.startswith(_SHARES) else None


def replace_ids_with_names(host_config: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a host configuration whose references to other containers are by name."""
    named = dict(host_config)
    for key in SHARED_NAMESPACES:
        if other := shared_container(named.get(key) or ""):
            named[key] = _SHARES + names.get(other, other)
    if named.get("VolumesFrom"):
        sources = (entry.partition(":") for entry in named["VolumesFrom"])
        named["VolumesFrom"] = [names.get(other, other) + colon + mode for other, colon, mode in sources]
    return named


def _other_containers(host_config: dict[str, Any]) -> Iterator[str]:
    for key in SHARED_NAMESPACES:
        if other := shared_container(host_config.get(key) or ""):
            yield other
    for entry in host_config.get("VolumesFrom") or []:
        yield entry.partition(":")[0]


def _name_of(engine: docker.APIClient, container: str) -> str:
    try:
        return str(engine.inspect_container(container)["Name"]).lstrip("/")
    except NotFound as error:
        raise CannotRecreate(
            f"It shares a namespace or volumes with container {container}, which is gone. Create it anew by hand."
        ) from error
