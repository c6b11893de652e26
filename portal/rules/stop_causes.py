"""Why a container that should run has stopped, and whether it is started again. Used by probes and updates.

The desired state decides whether a bot should run. Its container is started again when only the engine can be the
cause: after a crash, engines leave containers down, or cannot start them. A container that a person stopped with the
tools of the engine stays down, like one that ended and whose restart policy asks for no restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

STATUS_AFTER_CRASH = 255
"""The exit code that an engine records for a container whose end it missed, because the engine itself was down."""


class StopCause(StrEnum):
    """Why a container stopped."""

    ENGINE = "engine"
    """The restart policy asks for a restart, but the engine did not do it. The container is started again."""
    ITSELF = "itself"
    """It ended, and its restart policy asks for no restart."""
    PERSON = "person"
    """A person stopped it with the tools of the engine."""


@dataclass(frozen=True, kw_only=True)
class ContainerEnd:
    """How a container ended.

    Attributes:
        exit_code: status with which it ended.
        restarts: how often the engine has restarted it since it was started.
        start_failed: the engine tried to start it again and could not.
        is_remembered: the engine remembers the end. An engine remembers a limited number of events, and none from
            before its own start.
        by_person: the engine remembers that a person stopped or killed it.
        engine_restarted: the engine was probably started again around the end or later.
    """

    exit_code: int
    restarts: int = 0
    start_failed: bool = False
    is_remembered: bool = True
    by_person: bool = False
    engine_restarted: bool = False


def find_stop_cause(policy: Mapping[str, Any], end: ContainerEnd) -> StopCause:
    """Find out why a container stopped.

    An engine restarts a container as its policy asks, also when the engine starts, unless a person has stopped the
    container. So an end that the engine does not remember is the work of a person, unless the engine was down.

    Args:
        policy: restart policy of the container, as the engine describes it.
        end: how the container ended.
    """
    should_restart = _asks_for_restart(policy, end)
    if end.start_failed and should_restart:
        return StopCause.ENGINE
    if end.by_person:
        return StopCause.PERSON
    if not should_restart:
        return StopCause.ITSELF
    was_down = end.engine_restarted or end.exit_code == STATUS_AFTER_CRASH
    return StopCause.ENGINE if end.is_remembered or was_down else StopCause.PERSON


def _asks_for_restart(policy: Mapping[str, Any], end: ContainerEnd) -> bool:
    limit = policy.get("MaximumRetryCount") or 0
    match policy.get("Name"):
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            return end.exit_code != 0 and (limit == 0 or end.restarts < limit)
        case _:
            return False
