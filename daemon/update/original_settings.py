"""Name and restart policy of a bot's container, as they were captured first. Used by steps, rollback and cleanup.

During an update they are others: a temporary name, and the policy `no`. The engine may carry a call out long after
the worker gave up waiting for its answer, so even a later attempt may find the name or policy of an earlier one.
"""

from __future__ import annotations

import logging
from typing import Any

from docker.errors import APIError

from daemon.engine import containers
from daemon.engine.labels import update_id_of
from daemon.update.update_context import UpdateContext

logger = logging.getLogger(__name__)


def describe(container: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a container that the journal keeps for later attempts of the same update."""
    return {
        "container": container["Id"],
        "name": containers.name_of_container(container),
        "restart_policy": container["HostConfig"]["RestartPolicy"],
    }


def find_first_name(context: UpdateContext, container: dict[str, Any]) -> str | None:
    """Return the name that an earlier attempt of this update captured; None if there was none."""
    first = context.update.journal.get("original", {})
    return str(first["name"]) if first.get("container") == container["Id"] else None


def apply_first_capture(context: UpdateContext, saved: dict[str, Any]) -> None:
    """Replace a policy that an earlier attempt of this update left by the policy that this attempt had captured.

    Args:
        context: context of the update.
        saved: the new capture, which is changed.
    """
    first = context.update.journal.get("original", {})
    host_config = saved["container"]["HostConfig"]
    if first.get("container") == saved["container"]["Id"] and _is_no(host_config["RestartPolicy"]):
        host_config["RestartPolicy"] = first["restart_policy"]


def restore(context: UpdateContext, container_id: str) -> None:
    """Give a container the captured name and restart policy, unless it has them. A missing container is ignored."""
    found = containers.inspect(context.engine, container_id)
    if found is None:
        return
    if containers.name_of_container(found) != context.bot_name:
        _rename(context, container_id)
    policy = context.saved["container"]["HostConfig"]["RestartPolicy"]
    if found["HostConfig"]["RestartPolicy"] != policy:
        containers.set_restart_policy(context.guarded_engine(), container_id, policy)


def is_temporary(name: str) -> bool:
    """Return whether a container has this name only during an update."""
    return update_id_of(name) is not None


def _is_no(policy: dict[str, Any]) -> bool:
    return policy.get("Name") in {"", "no"}


def _rename(context: UpdateContext, container_id: str) -> None:
    try:
        containers.rename(context.guarded_engine(), container_id, context.bot_name)
    except APIError as error:
        if not error.is_client_error():
            raise
        # Another container has taken the name. The bot starts anyway; the next preflight says what to do.
        logger.warning(
            "the container %s of update %s keeps its temporary name: %s",
            container_id[:12],
            context.update.id,
            error.explanation,
        )
