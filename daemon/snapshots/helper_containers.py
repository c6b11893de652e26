"""Short-lived containers that read and write volumes and disks of a node. Used by snapshots and the preflight."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import LogConfig, Mount

from daemon.engine import containers
from daemon.errors import OperationFailed

# Needed to read, write and change the owner of files of any user; all other capabilities are dropped.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
_MAX_PAUSE_SECONDS = 1.0


class HelperFailed(OperationFailed):
    """A helper failed; the message contains the end of its error output."""


@dataclass(frozen=True)
class HelperTask:
    """The task of one helper.

    Attributes:
        name: fixed name of the container, under which a worker that takes over the update finds it.
        script: program for `sh`.
        seconds: time limit in seconds, after which the helper is removed.
        arguments: `$1`, `$2` … of the script.
        mounts: volumes to mount.
        folder: folder on the node's disk, mounted at `/archives`; the engine creates a missing folder.
        read_only: whether `folder` is mounted read-only.
    """

    name: str
    script: str
    seconds: float
    arguments: Sequence[str] = ()
    mounts: Sequence[Mount] = field(default_factory=tuple)
    folder: str | None = None
    read_only: bool = False


def volume_mount(engine: docker.APIClient, volume: str, target: str, *, read_only: bool) -> Mount:
    """Return a mount of an existing volume. The engine would silently create a missing one.

    Raises:
        HelperFailed: there is no such volume.
    """
    try:
        engine.inspect_volume(volume)
    except NotFound:
        raise HelperFailed(f"Volume {volume} does not exist on this node") from None
    # Without `no_copy` the engine copies files of the image at this path into an empty volume.
    return Mount(target=target, source=volume, type="volume", read_only=read_only, no_copy=True)


def run_helper(
    engine: docker.APIClient,
    image: str,
    labels: Mapping[str, str],
    task: HelperTask,
    renew_or_raise: Callable[[], object],
) -> dict[str, Any]:
    """Run a helper and return the JSON object that its script printed last.

    The container runs detached and is polled. It continues when its worker dies, and the next worker finds it under
    its fixed name. A helper left under this name is removed first.

    Args:
        engine: the node's engine.
        image: the helper image.
        labels: labels of the container.
        task: the task.
        renew_or_raise: called right before the helper starts; raises when the bot's lease was lost. A worker that
            was suspended must not empty a volume that another worker has restored since.

    Raises:
        HelperFailed: the helper could not be started, exceeded its time limit, or failed.
    """
    try:
        remove_helper(engine, task.name)
        config = _build_config(engine, image, labels, task)
        created = engine.create_container_from_config(config, name=task.name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        raise HelperFailed(f"Helper image {image} is no longer on this node") from None
    except APIError as error:
        raise HelperFailed(f"The engine refused the helper container: {_explain(error)}") from error
    try:
        renew_or_raise()
        _start(engine, created["Id"])
        status = _wait_for_exit(engine, created["Id"], task.seconds)
        return _read_result(engine, created["Id"], status)
    finally:
        remove_helper(engine, created["Id"])


def remove_helper(engine: docker.APIClient, container: str) -> None:
    """Remove a helper, running or not, with volumes that its image declares. A missing helper is ignored."""
    containers.remove(engine, container, with_anonymous_volumes=True, force=True)


def _build_config(
    engine: docker.APIClient, image: str, labels: Mapping[str, str], task: HelperTask
) -> dict[str, Any]:
    bind = f"{task.folder}:/archives:{'ro' if task.read_only else 'rw'}"
    host = engine.create_host_config(
        network_mode="none",
        mounts=list(task.mounts),
        # A bind, because the engine creates the missing folder of a bind but not that of a mount.
        binds=[bind] if task.folder else [],
        cap_drop=["ALL"],
        cap_add=_CAPABILITIES,
        security_opt=["no-new-privileges"],
        read_only=True,
        # The result is read from the log, and not every log driver supports reading.
        log_config=LogConfig(type=LogConfig.types.JSON),
    )
    config: dict[str, Any] = engine.create_container_config(
        image,
        ["-c", task.script, task.name, *task.arguments],
        entrypoint=["sh"],
        user="0:0",
        working_dir="/",
        labels=dict(labels),
        host_config=host,
    )
    config["Healthcheck"] = {"Test": ["NONE"]}
    return config


def _start(engine: docker.APIClient, container: str) -> None:
    try:
        engine.start(container)
    except APIError as error:
        raise HelperFailed(f"The helper container did not start: {_explain(error)}") from error


def _wait_for_exit(engine: docker.APIClient, container: str, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    pause = 0.05
    while time.monotonic() < deadline:
        try:
            state = engine.inspect_container(container)["State"]
        except NotFound:
            raise HelperFailed("The helper container was removed while it ran") from None
        if state["Status"] in {"exited", "dead"}:
            return int(state["ExitCode"])
        time.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE_SECONDS)
    raise HelperFailed(f"The helper did not finish within {seconds:.0f} s")


def _read_result(engine: docker.APIClient, container: str, status: int) -> dict[str, Any]:
    if status != 0:
        errors: bytes = engine.logs(container, stdout=False, stderr=True, tail=30)
        message = errors.decode(errors="replace")[-2000:].strip()
        raise HelperFailed(message or f"The helper exited with status {status} without an error message")
    # Without `tail`, which the engine applies to both streams together: error lines could push out the result.
    output: bytes = engine.logs(container, stdout=True, stderr=False)
    try:
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        raise HelperFailed("The helper exited with status 0 but reported no result") from None
    return result


def _explain(error: APIError) -> str:
    return str(error.explanation or error)
