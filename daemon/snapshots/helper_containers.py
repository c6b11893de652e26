"""Short-lived containers that read and write volumes and disks of a node. Used by snapshots and the preflight."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Mount

from daemon.engine import containers
from daemon.engine.trouble import repeat_in_trouble
from daemon.errors import EngineTrouble, OperationFailed

logger = logging.getLogger(__name__)

# Needed to read, write and change the owner of files of any user; all other capabilities are dropped.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
_MAX_PAUSE_SECONDS = 1.0
_TROUBLE_SECONDS = 30.0
"""How long trouble of the engine may last while the state or the log of a helper is read, before it is lost."""
_KILLED_STATUS = 137
_FULL_DISK = ("No space left on device", "Disk quota exceeded", "Wrote only ")
"""What programs print when a disk is full. tar prints the last one if it could write a part of a block."""


class HelperFailed(OperationFailed):
    """A helper failed; the message contains the end of its error output."""


class HelperLost(HelperFailed, EngineTrouble):
    """A helper did not start, was removed or killed while it ran, or filled a disk. It may be repeated."""


@dataclass(frozen=True)
class HelperTask:
    """The task of one helper.

    Attributes:
        name: name of the container, which tells what it does.
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

    The container runs detached and is polled. It continues when its worker dies, and the next worker finds it by its
    labels. A helper left under this name by an earlier attempt is removed first.

    Args:
        engine: the node's engine.
        image: the helper image.
        labels: labels of the container.
        task: the task.
        renew_or_raise: called right before the helper starts; raises when the bot's lease was lost. A worker that
            was suspended must not empty a volume that another worker has restored since.

    Raises:
        HelperFailed: the helper could not be created, exceeded its time limit, or failed.
        HelperLost: the helper did not start, or was removed while it ran; it may be repeated.
    """
    helper = _create(engine, image, labels, task)
    try:
        renew_or_raise()
        _start(engine, helper)
        status = _wait_for_exit(engine, helper, task.seconds)
        return _read_result(engine, helper, status)
    finally:
        _try_to_remove(engine, helper)


def remove_helper(engine: docker.APIClient, container: str) -> None:
    """Remove a helper, running or not, with volumes that its image declares. A missing helper is ignored."""
    containers.remove(engine, container, with_anonymous_volumes=True, force=True)


def _try_to_remove(engine: docker.APIClient, helper: str) -> None:
    # The result of the helper is known. What stays is removed by the next helper of this name, or by the cleanup.
    try:
        remove_helper(engine, helper)
    except (DockerException, EngineTrouble) as error:
        logger.info("helper container %s stays until the cleanup: %s", helper[:12], error)


def _create(engine: docker.APIClient, image: str, labels: Mapping[str, str], task: HelperTask) -> str:
    try:
        remove_helper(engine, task.name)
        config = _build_config(engine, image, labels, task)
        created = engine.create_container_from_config(config, name=task.name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        raise HelperFailed(f"Helper image {image} is no longer on this node") from None
    except APIError as error:
        # 409: the engine has just carried out an earlier call that had no answer.
        kind = HelperLost if error.status_code == 409 else HelperFailed
        raise kind(f"The engine refused the helper container: {_explain(error)}") from error
    return str(created["Id"])


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
        # 404: a late call removed it.
        kind = HelperLost if error.status_code in {404, 409} else HelperFailed
        raise kind(f"The helper container did not start: {_explain(error)}") from error


def _wait_for_exit(engine: docker.APIClient, container: str, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    pause = 0.05
    while time.monotonic() < deadline:
        try:
            state = repeat_in_trouble(lambda: engine.inspect_container(container), _TROUBLE_SECONDS)["State"]
        except NotFound:
            raise HelperLost("The helper container was removed while it ran") from None
        if state["Status"] in {"exited", "dead"}:
            return int(state["ExitCode"])
        time.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE_SECONDS)
    raise HelperFailed(f"The helper did not finish within {seconds:.0f} s")


def _read_result(engine: docker.APIClient, container: str, status: int) -> dict[str, Any]:
    if status != 0:
        errors = _read_log(engine, container, stdout=False, stderr=True, tail=30)
        message = errors.decode(errors="replace")[-2000:].strip()
        is_lost = status == _KILLED_STATUS or any(text in message for text in _FULL_DISK)
        kind = HelperLost if is_lost else HelperFailed
        raise kind(message or f"The helper exited with status {status} without an error message")
    # Without `tail`, which the engine applies to both streams together: error lines could push out the result.
    output = _read_log(engine, container, stdout=True, stderr=False)
    try:
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        raise HelperFailed("The helper exited with status 0 but reported no result") from None
    return result


def _read_log(engine: docker.APIClient, container: str, **options: Any) -> bytes:
    try:
        log: bytes = repeat_in_trouble(lambda: engine.logs(container, **options), _TROUBLE_SECONDS)
    except NotFound:
        raise HelperLost("The helper container was removed before its result was read") from None
    return log


def _explain(error: APIError) -> str:
    return str(error.explanation or error)
