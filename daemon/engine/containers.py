"""What an update does to a bot's containers. Each verb may be repeated: what is done already is fine.

Containers are addressed by id, so that a name that moved on never leads to the wrong one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import docker
from docker.errors import APIError, NotFound

from daemon.engine.labels import UPDATE_LABEL
from daemon.errors import OperationFailed

# Its own policy could start a container that only waits to take over, whenever the engine restarts.
NO_RESTART = {"Name": "no", "MaximumRetryCount": 0}

_DEFAULT_GRACE_SECONDS = 10
_KILL_SECONDS = 15
_POLL_SECONDS = 0.1
_LOG_LINES = 50
_LOG_CHARACTERS = 8000


def find(engine: docker.APIClient, name: str, update_id: str) -> str | None:
    """The id of the container of that name, if this very update made it."""
    try:
        found: dict[str, Any] = engine.inspect_container(name)
    except NotFound:
        return None
    ours = (found["Config"]["Labels"] or {}).get(UPDATE_LABEL) == update_id
    return str(found["Id"]) if ours else None


def inspect(engine: docker.APIClient, container_id: str | None) -> dict[str, Any] | None:
    """What the engine knows of a container, or None when it is gone."""
    if container_id is None:
        return None
    try:
        found: dict[str, Any] = engine.inspect_container(container_id)
    except NotFound:
        return None
    return found


def name_of_container(inspect: dict[str, Any]) -> str:
    """The name of a container, from the engine's description of it."""
    return str(inspect["Name"]).removeprefix("/")


def set_restart_policy(engine: docker.APIClient, container_id: str, policy: dict[str, Any]) -> None:
    """Say what the engine does when the container ends by itself; with none it stays down."""
    engine.update_container(container_id, restart_policy=cast("Any", policy or NO_RESTART))


def stop(engine: docker.APIClient, container_id: str, renew_or_raise: Callable[[], object]) -> None:
    """Stop a container by its own signal and grace, then by force.

    The signal is sent and the end awaited by looking, so no call to the engine lasts long, and whoever takes over
    may send it again.

    Args:
        engine: the node's engine.
        container_id: the container; one that is not running, or gone, is fine.
        renew_or_raise: called before each effect and while waiting; raises when this worker may not go on.

    Raises:
        UpdateFailed: it is still running after it was killed.
    """
    found = inspect(engine, container_id)
    if found is None:
        return
    grace = found["Config"].get("StopTimeout")
    signal = found["Config"].get("StopSignal") or "SIGTERM"
    for sent, seconds in (
        (signal, _DEFAULT_GRACE_SECONDS if grace is None else grace),
        ("SIGKILL", _KILL_SECONDS),
    ):
        renew_or_raise()
        _signal(engine, container_id, sent)
        if _ends_within(engine, container_id, seconds, renew_or_raise):
            return
    raise OperationFailed(
        f"the container {container_id[:12]} does not stop, not even when killed; look at the engine"
    )


def start(engine: docker.APIClient, container_id: str) -> None:
    """Start a container; one that is running is left alone."""
    engine.start(container_id)


def rename(engine: docker.APIClient, container_id: str, name: str) -> None:
    """Give the container this name."""
    found: dict[str, Any] = engine.inspect_container(container_id)
    if name_of_container(found) != name:
        engine.rename(container_id, name)


def remove(engine: docker.APIClient, container_id: str, *, with_fresh_volumes: bool, force: bool = False) -> None:
    """Remove a container. When this returns it is gone, and so its name is free.

    Args:
        engine: the node's engine.
        container_id: the container; one that is gone is fine.
        with_fresh_volumes: also the anonymous volumes the engine made for it; volumes attached by name stay.
        force: even while it runs, which is for containers without data of their own.
    """
    try:
        engine.remove_container(container_id, v=with_fresh_volumes, force=force)
    except NotFound:
        return
    except APIError as error:
        # Its removal may be under way already, as a dead worker asked for it.
        if error.status_code != 409 or not _gone_within(engine, container_id, _KILL_SECONDS, though_running=force):
            raise


def log_tail(engine: docker.APIClient, container_id: str | None) -> str | None:
    """The container's last lines, for the person who asks why it failed; None when they cannot be had."""
    if container_id is None:
        return None
    try:
        content: bytes = engine.logs(container_id, tail=_LOG_LINES)
    except APIError:  # it is gone, or its log driver keeps no lines one could read
        return None
    return content.decode(errors="replace")[-_LOG_CHARACTERS:]


def _gone_within(engine: docker.APIClient, container_id: str, seconds: float, *, though_running: bool) -> bool:
    deadline = time.monotonic() + seconds
    while (found := inspect(engine, container_id)) is not None and (though_running or not found["State"]["Running"]):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    return found is None


def _signal(engine: docker.APIClient, container_id: str, signal: str) -> None:
    try:
        engine.kill(container_id, signal)
    except APIError as error:
        if error.status_code not in {404, 409}:  # gone, or not running: what was wanted
            raise


def _ends_within(
    engine: docker.APIClient, container_id: str, seconds: float, renew_or_raise: Callable[[], object]
) -> bool:
    deadline = time.monotonic() + seconds
    checked = time.monotonic()
    while True:
        found = inspect(engine, container_id)
        if found is None or not found["State"]["Running"]:
            return True
        if time.monotonic() >= deadline:
            return False
        if time.monotonic() - checked > 1:
            renew_or_raise()
            checked = time.monotonic()
        time.sleep(_POLL_SECONDS)
