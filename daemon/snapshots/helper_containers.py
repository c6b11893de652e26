"""Short-lived containers that work on a node's volumes and disk, where the worker itself cannot reach."""

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

# What reading, writing and giving away other people's files takes; everything else is dropped.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
_LONGEST_PAUSE = 1.0


class HelperFailed(OperationFailed):
    """A helper could not do its work; the text has its own last words."""


@dataclass(frozen=True)
class HelperTask:
    """What a helper is to do.

    Attributes:
        name: the fixed name of its container, so that whoever takes an update over finds it.
        script: program for `sh`.
        arguments: `$1`, `$2` … of the script.
        mounts: volumes it works on.
        folder: folder on the node's disk, mounted at `/archives`; the engine makes it where it is missing.
        read_only: whether that folder is only read.
        seconds: when it is given up and ended.
    """

    name: str
    script: str
    seconds: float
    arguments: Sequence[str] = ()
    mounts: Sequence[Mount] = field(default_factory=tuple)
    folder: str | None = None
    read_only: bool = False


def volume_mount(engine: docker.APIClient, volume: str, target: str, *, read_only: bool) -> Mount:
    """A mount of a volume that is known to exist, for the engine would make a missing one, empty, and say nothing.

    Raises:
        HelperFailed: there is no such volume.
    """
    try:
        engine.inspect_volume(volume)
    except NotFound:
        raise HelperFailed(f"the volume {volume} does not exist on this node") from None
    # Without `no_copy` an empty volume would be filled with what the image has at that path.
    return Mount(target=target, source=volume, type="volume", read_only=read_only, no_copy=True)


def run_helper(
    engine: docker.APIClient,
    image: str,
    labels: Mapping[str, str],
    task: HelperTask,
    renew_or_raise: Callable[[], object],
) -> dict[str, Any]:
    """Carry out a task and return the JSON object its script printed last.

    `renew_or_raise` is asked right before the helper starts, and raises when this worker may not go on: one that slept
    through its lease must not empty a volume that somebody else has put to use again.

    The container runs detached and is polled: what a client asked of an engine goes on when the client dies, and
    under its fixed name it can be found and ended. One that a dead worker left under this name is ended first.

    Raises:
        HelperFailed: it could not be started, took too long, or failed.
    """
    try:
        remove_helper(engine, task.name)
        config = _config(engine, image, labels, task)
        created = engine.create_container_from_config(config, name=task.name)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        raise HelperFailed(f"the helper image {image} is not on this node any more") from None
    except APIError as error:
        raise HelperFailed(f"the engine refused the helper: {_explain(error)}") from error
    try:
        renew_or_raise()
        _start(engine, created["Id"])
        status = _await_end(engine, created["Id"], task.seconds)
        return _result(engine, created["Id"], status)
    finally:
        remove_helper(engine, created["Id"])


def remove_helper(engine: docker.APIClient, container: str) -> None:
    """End and remove a helper, with the volumes its image may declare; one that is gone already is fine."""
    containers.remove(engine, container, with_fresh_volumes=True, force=True)


def _config(engine: docker.APIClient, image: str, labels: Mapping[str, str], task: HelperTask) -> dict[str, Any]:
    bind = f"{task.folder}:/archives:{'ro' if task.read_only else 'rw'}"
    host = engine.create_host_config(
        network_mode="none",
        mounts=list(task.mounts),
        # As a bind and not as a mount, because then the engine makes a missing folder.
        binds=[bind] if task.folder else [],
        cap_drop=["ALL"],
        cap_add=_CAPABILITIES,
        security_opt=["no-new-privileges"],
        read_only=True,
        # The result is read from the log, whatever driver the engine has as its default.
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
        raise HelperFailed(f"the helper did not start: {_explain(error)}") from error


def _await_end(engine: docker.APIClient, container: str, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    pause = 0.05
    while time.monotonic() < deadline:
        try:
            state = engine.inspect_container(container)["State"]
        except NotFound:
            raise HelperFailed("somebody removed the helper while it was at work") from None
        if state["Status"] in {"exited", "dead"}:
            return int(state["ExitCode"])
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    raise HelperFailed(f"the helper was not done within {seconds:.0f} seconds")


def _result(engine: docker.APIClient, container: str, status: int) -> dict[str, Any]:
    if status != 0:
        words = _log(engine, container, "stderr")[-2000:].strip()
        raise HelperFailed(words or f"the helper ended with status {status} and said nothing")
    lines = _log(engine, container, "stdout").splitlines()
    try:
        result: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise HelperFailed("the helper ended well but reported no result") from None
    return result


def _log(engine: docker.APIClient, container: str, stream: str) -> str:
    content: bytes = engine.logs(container, stdout=stream == "stdout", stderr=stream == "stderr", tail=30)
    return content.decode(errors="replace")


def _explain(error: APIError) -> str:
    return str(error.explanation or error)
