"""Operations on containers: find, inspect, start, stop, rename, remove. Used by updates and bot jobs.

Every operation is idempotent. Containers are addressed by id, because a name may move to another container.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, cast

import docker
from docker.errors import APIError, NotFound

from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, UPDATE_LABEL
from daemon.errors import OperationFailed

logger = logging.getLogger(__name__)

NO_RESTART = {"Name": "no", "MaximumRetryCount": 0}
"""Restart policy of a container that must stay down even when the engine restarts."""

_DEFAULT_GRACE_SECONDS = 10
_KILL_SECONDS = 15
_POLL_SECONDS = 0.1
_FIRST_POLL_SECONDS = 0.02
_POLL_SHARE = 0.3
"""While a container stops, the pauses grow with the time that it has taken so far, because the bot is down."""
_LOG_LINES = 50
_LOG_CHARACTERS = 8000


def find(engine: docker.APIClient, name: str, update_id: str) -> str | None:
    """Return the id of the container with this name that this update created.

    Returns:
        The id; None if no container has this name, or another update or program created it.
    """
    try:
        found: dict[str, Any] = engine.inspect_container(name)
    except NotFound:
        return None
    created_by_update = (found["Config"]["Labels"] or {}).get(UPDATE_LABEL) == update_id
    return str(found["Id"]) if created_by_update else None


def inspect(engine: docker.APIClient, container_id: str | None) -> dict[str, Any] | None:
    """Return the engine's description of a container, or None when the container does not exist."""
    if container_id is None:
        return None
    try:
        found: dict[str, Any] = engine.inspect_container(container_id)
    except NotFound:
        return None
    return found


def list_for_bot(engine: docker.APIClient, install_id: str, bot_id: str) -> list[str]:
    """Return the ids of all containers that this installation created for a bot, running or not.

    Args:
        engine: the node's engine.
        install_id: id of this installation.
        bot_id: the bot.
    """
    labels = [f"{INSTALL_LABEL}={install_id}", f"{BOT_LABEL}={bot_id}"]
    return [str(container["Id"]) for container in engine.containers(all=True, filters={"label": labels})]


def name_of_container(description: dict[str, Any]) -> str:
    """Return the name of a container, given the engine's description of it."""
    return str(description["Name"]).removeprefix("/")


def set_restart_policy(engine: docker.APIClient, container_id: str, policy: dict[str, Any]) -> None:
    """Set the restart policy of a container. An empty policy means that the engine never restarts it."""
    engine.update_container(container_id, restart_policy=cast("Any", policy or NO_RESTART))


def stop(
    engine: docker.APIClient,
    container_id: str,
    renew_or_raise: Callable[[], object],
    *,
    described: dict[str, Any] | None = None,
) -> None:
    """Stop a container with its own signal and grace period; kill it if it still runs after that.

    Sends the signal and polls the state, because a worker that takes over could not repeat one long call. A container
    that is not running or does not exist is left alone.

    Args:
        engine: the node's engine.
        container_id: the container.
        renew_or_raise: called before each effect; raises when the bot's lease was lost.
        described: the engine's description of the container, as of any moment; by default it is read.

    Raises:
        OperationFailed: the container still runs after it was killed.
    """
    found = described or inspect(engine, container_id)
    if found is None:
        return
    grace = found["Config"].get("StopTimeout")
    signal = found["Config"].get("StopSignal") or "SIGTERM"
    for sent, seconds in (
        (signal, _DEFAULT_GRACE_SECONDS if grace is None else grace),
        ("SIGKILL", _KILL_SECONDS),
    ):
        renew_or_raise()
        _send_signal(engine, container_id, sent)
        if _wait_until_stopped(engine, container_id, seconds):
            return
    raise OperationFailed(
        f"Container {container_id[:12]} still runs after it was killed; check the Docker engine of its node"
    )


def start(engine: docker.APIClient, container_id: str) -> None:
    """Start a container unless it runs already."""
    engine.start(container_id)


def rename(engine: docker.APIClient, container_id: str, name: str) -> None:
    """Rename a container unless it has this name already."""
    try:
        engine.rename(container_id, name)
    except APIError as error:
        if not error.is_client_error() or name_of_container(engine.inspect_container(container_id)) != name:
            raise


def remove(engine: docker.APIClient, container_id: str, *, with_anonymous_volumes: bool, force: bool = False) -> None:
    """Remove a container and wait until its name is free. A container that does not exist is left alone.

    Args:
        engine: the node's engine.
        container_id: the container.
        with_anonymous_volumes: also remove anonymous volumes that the engine created for it; volumes that were
            attached by name stay.
        force: also remove a running container; only for containers without data.
    """
    try:
        engine.remove_container(container_id, v=with_anonymous_volumes, force=force)
    except NotFound:
        return
    except APIError as error:
        # 409: a worker that died may have requested the removal, which is still in progress.
        if error.status_code != 409 or not _wait_until_removed(
            engine, container_id, _KILL_SECONDS, even_if_running=force
        ):
            raise


def log_tail(engine: docker.APIClient, container_id: str | None) -> str | None:
    """Return the last lines of a container's log, or None when the log cannot be read for any reason."""
    if container_id is None:
        return None
    try:
        content: bytes = engine.logs(container_id, tail=_LOG_LINES)
        return content.decode(errors="replace")[-_LOG_CHARACTERS:]
    except Exception as error:  # noqa: BLE001 - nothing that a log does may stop a rollback
        # Usually the container does not exist, or its log driver does not support reading.
        logger.warning("the log of container %s cannot be read: %s", container_id[:12], type(error).__name__)
        return None


def _wait_until_removed(
    engine: docker.APIClient, container_id: str, seconds: float, *, even_if_running: bool
) -> bool:
    """Wait for a removal in progress. Return False when the container still exists.

    Args:
        engine: the node's engine.
        container_id: the container.
        seconds: how long to wait at most.
        even_if_running: whether the removal is forced. Only a forced removal can be in progress while the container
            runs; without force, a running container means that there is no removal to wait for.
    """
    deadline = time.monotonic() + seconds
    while (found := inspect(engine, container_id)) is not None and (even_if_running or not found["State"]["Running"]):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    return found is None


def _send_signal(engine: docker.APIClient, container_id: str, signal: str) -> None:
    try:
        engine.kill(container_id, signal)
    except APIError as error:
        if error.status_code not in {404, 409}:  # the container does not exist or does not run
            raise


def _wait_until_stopped(engine: docker.APIClient, container_id: str, seconds: float) -> bool:
    """Wait until a container has stopped. Return False when it still runs after `seconds`."""
    started = time.monotonic()
    while True:
        found = inspect(engine, container_id)
        if found is None or not found["State"]["Running"]:
            return True
        elapsed = time.monotonic() - started
        if elapsed >= seconds:
            return False
        time.sleep(min(max(elapsed * _POLL_SHARE, _FIRST_POLL_SECONDS), _POLL_SECONDS))
