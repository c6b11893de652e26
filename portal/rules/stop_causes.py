"""Why a container that should run has stopped, and whether it is started again. Used by probes and updates.

The desired state decides whether a bot should run. Its container is started again when only the engine can be the
cause: after a crash, engines leave containers down, or cannot start them. A container that a person stopped with the
tools of the engine stays down, like one that ended and whose restart policy asks for no restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class StopCause(StrEnum):
    """Why a container stopped."""

    ENGINE = "engine"
    """The restart policy asks for a restart, but the engine did not do it. The container is started again."""
    ITSELF = "itself"
    """It ended, and its restart policy asks for no restart."""
    PERSON = "person"
    """A person stopped it with the tools of the engine."""


def find_stop_cause(policy: Mapping[str, Any], exit_code: int, restarts: int, *, by_person: bool) -> StopCause:
    """Find out why a container stopped.

    Args:
        policy: restart policy of the container, as the engine describes it.
        exit_code: status with which the container ended.
        restarts: how often the engine has restarted the container since it was started.
        by_person: whether the engine remembers a stop or kill of the container.
    """
    if by_person:
        return StopCause.PERSON
    limit = policy.get("MaximumRetryCount") or 0
    match policy.get("Name"):
        case "always" | "unless-stopped":
            return StopCause.ENGINE
        case "on-failure" if exit_code != 0 and (limit == 0 or restarts < limit):
            return StopCause.ENGINE
        case _:
            return StopCause.ITSELF
