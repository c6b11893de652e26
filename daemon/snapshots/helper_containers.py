"""Short-lived containers that read and write volumes and disks of a node. Used by snapshots and the preflight."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_TROUBLE_SECONDS = 30.0
"""How long trouble of the engine may last while the state or the log of a helper is read, before it is lost."""
_FIRST_LOST_STATUS = 128
"""From this exit status on, a signal or a crash of the engine ended the program; the scripts exit with less."""
_FULL_DISK = ("No space left on device", "Disk quota exceeded", "Wrote only ")
"""What programs print when a disk is full. tar prints the last one if it could write a part of a block."""
_FIRST_PAUSE_SECONDS = 0.02
_MAX_PAUSE_SECONDS = 1.0
_PAUSE_SHARE = 0.3
"""Pauses grow with the time that the helper has taken so far, so that waiting adds little to it."""
_INSPECT_AFTER_SECONDS = 1.0
"""A helper that has printed nothing for this long may have ended."""


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
        cpu_shares: share of the processors while other containers need them; the engine's default is 1024.
        capabilities: capabilities besides those that every helper has.
    """

    name: str
    script: str
    seconds: float
    arguments: Sequence[str] = ()
    mounts: Sequence[Mount] = field(default_factory=tuple)
    folder: str | None = None
    read_only: bool = False
    cpu_shares: int | None = None
    capabilities: Sequence[str] = ()


def volume_mount(engine: docker.APIClient, volume: str, target: str, *, read_only: bool) -> Mount:
    """Return a mount of an existing volume. The engine would silently create a missing one.

    Raises:
        HelperFailed: there is no such volume.
    """
    try:
        engine.inspect_volume(volume)
    except NotFound:
        raise HelperFailed(f"Volume {volume} does not exist on this node") from None
    return build_mount(volume, target, read_only=read_only)


def build_mount(volume: str, target: str, *, read_only: bool) -> Mount:
    """Return a mount of a volume that is known to exist."""
    # Without `no_copy` the engine copies files of the image at this path into an empty volume.
    return Mount(target=target, source=volume, type="volume", read_only=read_only, no_copy=True)


def run_helper(
    engine: docker.APIClient,
    image: str,
    labels: Mapping[str, str],
    task: HelperTask,
    renew_or_raise: Callable[[], object],
) -> Any:
    """Run a helper and return the JSON value that its script printed last.

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
    container = create_helper(engine, image, labels, task)
    try:
        start_helper(engine, container, renew_or_raise)
        status = _wait_for_exit(engine, container, task.seconds)
        return _read_result(engine, container, status)
    finally:
        try_to_remove(engine, container)


def create_helper(engine: docker.APIClient, image: str, labels: Mapping[str, str], task: HelperTask) -> str:
    """Create a helper, without starting it, and return its id. A helper left under this name is removed.

    Raises:
        HelperFailed: the engine refused the container, or the image is missing.
        HelperLost: the engine has just carried out an earlier call that had no answer.
    """
    config = _build_config(engine, image, labels, task)
    try:
        return _create_or_replace(engine, config, task.name)
    except ImageNotFound:
        raise HelperFailed(f"Helper image {image} is no longer on this node") from None
    except APIError as error:
        kind = HelperLost if error.status_code == 409 else HelperFailed
        raise kind(f"The engine refused the helper container: {_explain(error)}") from error


def start_helper(engine: docker.APIClient, container: str, renew_or_raise: Callable[[], object]) -> None:
    """Renew the lease and start a helper.

    Raises:
        HelperFailed: the engine refused.
        HelperLost: a late call has removed the helper.
        LeaseLost: the bot's lease was lost.
    """
    renew_or_raise()
    try:
        engine.start(container)
    except APIError as error:
        kind = HelperLost if error.status_code in {404, 409} else HelperFailed
        raise kind(f"The helper container did not start: {_explain(error)}") from error


def wait_for_line(engine: docker.APIClient, container: str, number: int, seconds: float) -> Any:
    """Wait until a running helper has printed its line `number`, counted from 1, and return the line's JSON value.

    Raises:
        HelperFailed: the helper ended without that line, or exceeded the time limit of `seconds`.
        HelperLost: the helper was removed while it ran.
    """
    started = time.monotonic()
    for pause in _pauses(seconds):
        # The state is read before the log, so that a helper that ended has written its last line.
        status = _exit_status(engine, container) if time.monotonic() - started > _INSPECT_AFTER_SECONDS else None
        if (line := _read_line(engine, container, number)) is not None:
            return _parse(line)
        if status is not None:
            raise _read_failure(engine, container, status)
        time.sleep(pause)
    raise HelperFailed(f"The helper did not finish within {seconds:.0f} s")


def remove_helper(engine: docker.APIClient, container: str) -> None:
    """Remove a helper, running or not, with volumes that its image declares. A missing helper is ignored."""
    containers.remove(engine, container, with_anonymous_volumes=True, force=True)


def try_to_remove(engine: docker.APIClient, container: str) -> None:
    """Remove a helper whose result is known. One that stays is removed by the cleanup."""
    try:
        remove_helper(engine, container)
    except (DockerException, EngineTrouble) as error:
        logger.info("helper container %s stays until the cleanup: %s", container[:12], error)


def _create_or_replace(engine: docker.APIClient, config: dict[str, Any], name: str) -> str:
    try:
        created = engine.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
    except APIError as error:
        if error.status_code != 409:  # a helper has this name
            raise
        remove_helper(engine, name)
        created = engine.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
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
        tmpfs={"/tmp": ""},  # noqa: S108 - in the container, for lists of entries
        cap_drop=["ALL"],
        cap_add=[*_CAPABILITIES, *task.capabilities],
        security_opt=["no-new-privileges"],
        read_only=True,
        cpu_shares=task.cpu_shares,
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


def _wait_for_exit(engine: docker.APIClient, container: str, seconds: float) -> int:
    for pause in _pauses(seconds):
        status = _exit_status(engine, container)
        if status is not None:
            return status
        time.sleep(pause)
    raise HelperFailed(f"The helper did not finish within {seconds:.0f} s")


def _pauses(seconds: float) -> Iterator[float]:
    """Yield pauses in seconds until the time limit has passed."""
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        yield min(max(elapsed * _PAUSE_SHARE, _FIRST_PAUSE_SECONDS), _MAX_PAUSE_SECONDS)


def _exit_status(engine: docker.APIClient, container: str) -> int | None:
    """Return the exit status of a helper, or None while it runs."""
    try:
        state = repeat_in_trouble(lambda: engine.inspect_container(container), _TROUBLE_SECONDS)["State"]
    except NotFound:
        raise HelperLost("The helper container was removed while it ran") from None
    return int(state["ExitCode"]) if state["Status"] in {"exited", "dead"} else None


def _read_line(engine: docker.APIClient, container: str, number: int) -> bytes | None:
    lines = _read_log(engine, container, stdout=True, stderr=False).splitlines(keepends=True)
    complete = len(lines) >= number and lines[number - 1].endswith(b"\n")
    return lines[number - 1] if complete else None


def _read_result(engine: docker.APIClient, container: str, status: int) -> Any:
    if status != 0:
        raise _read_failure(engine, container, status)
    # Without `tail`, which the engine applies to both streams together: error lines could push out the result.
    output = _read_log(engine, container, stdout=True, stderr=False)
    return _parse((output.splitlines() or [b""])[-1])


def _read_failure(engine: docker.APIClient, container: str, status: int) -> HelperFailed:
    errors = _read_log(engine, container, stdout=False, stderr=True, tail=30)
    message = errors.decode(errors="replace")[-2000:].strip()
    is_lost = status >= _FIRST_LOST_STATUS or any(text in message for text in _FULL_DISK)
    kind = HelperLost if is_lost else HelperFailed
    return kind(message or f"The helper exited with status {status} without an error message")


def _read_log(engine: docker.APIClient, container: str, **options: Any) -> bytes:
    try:
        log: bytes = repeat_in_trouble(lambda: engine.logs(container, **options), _TROUBLE_SECONDS)
    except NotFound:
        raise HelperLost("The helper container was removed before its result was read") from None
    return log


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise HelperLost("The helper exited with status 0 but reported no result") from None


def _explain(error: APIError) -> str:
    return str(error.explanation or error)
