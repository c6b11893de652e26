"""Containers that have stopped: why, and what to do about it. Used by probes and updates of bots."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import docker

from daemon.engine import containers
from daemon.engine.client import limit_stream, open_engine
from daemon.engine.port_conflicts import explain_port_conflict
from portal.models import Node
from portal.rules.stop_causes import STATUS_AFTER_CRASH, ContainerEnd, StopCause, find_stop_cause

_READ_SECONDS = 10.0
_REMEMBERED_EVENTS = 256
"""So many events an engine keeps in memory, of all its containers, images and networks together."""
_START_SECONDS = 600.0
"""An engine that starts again has started its containers after this time."""


@dataclass(frozen=True)
class _Memory:
    """What an engine remembers.

    Attributes:
        actions: what happened to the container since its last start.
        is_full: older events were forgotten. Otherwise the engine remembers everything since it was started itself.
    """

    actions: frozenset[str]
    is_full: bool


def read_stop_cause(node: Node, found: dict[str, Any]) -> StopCause:
    """Read from the engine why a container has stopped.

    Args:
        node: the node of the container.
        found: the engine's description of the container.

    Raises:
        EngineUnreachable: the engine does not answer.
    """
    # A new connection: an engine that shuts down stops containers, too, and answers on old connections only.
    with open_engine(node) as engine:
        memory = _read_memory(engine, found)
        is_remembered = "die" in memory.actions
        engine_restarted = not is_remembered and memory.is_full and _has_restarted(engine, found)
    state = found["State"]
    end = ContainerEnd(
        exit_code=state["ExitCode"],
        restarts=found.get("RestartCount", 0),
        start_failed=bool(state.get("Error")),
        is_remembered=is_remembered,
        by_person=bool(memory.actions & {"stop", "kill"}),
        engine_restarted=engine_restarted,
    )
    return find_stop_cause(found["HostConfig"].get("RestartPolicy") or {}, end)


def has_ended_with_engine(engine: docker.APIClient, found: dict[str, Any]) -> bool:
    """Return whether a crash of the engine ended a container, rather than its own program.

    When the engine starts again, it records status 255 for such a container, and does not remember its end.

    Args:
        engine: the engine of the container.
        found: the engine's description of the container.
    """
    state = found["State"]
    if state["Running"] or state["ExitCode"] != STATUS_AFTER_CRASH:
        return False
    memory = _read_memory(engine, found)
    return "die" not in memory.actions and (not memory.is_full or _has_restarted(engine, found))


def describe_stop(found: dict[str, Any]) -> str:
    """Describe the state of a stopped container for an operator, with the engine's error if it could not start."""
    state = found["State"]
    text = f"{state['Status'].capitalize()} with status {state['ExitCode']}"
    return f"{text}: {explain_port_conflict(state['Error'])}" if state.get("Error") else text


def _read_memory(engine: docker.APIClient, found: dict[str, Any]) -> _Memory:
    """Read the events in the memory of an engine."""
    started = _parse(found["State"]["StartedAt"])
    # Text, because the library rounds moments to seconds. Events have the time of the engine's clock.
    since, until = cast("Any", "1"), cast("Any", f"{_parse(engine.info()['SystemTime']):.6f}")
    actions, number = set(), 0
    with (
        limit_stream(_READ_SECONDS, "the reading of events"),
        closing(engine.events(since=since, until=until, decode=True)) as stream,
    ):
        for event in stream:
            number += 1
            if event["Actor"]["ID"] == found["Id"] and event["timeNano"] / 1e9 >= started:
                actions.add(event["Action"])
    return _Memory(frozenset(actions), is_full=number >= _REMEMBERED_EVENTS)


def _has_restarted(engine: docker.APIClient, found: dict[str, Any]) -> bool:
    """Return whether an engine was probably started again around the end of a container or later.

    Then no other container has run since long before that. Without other containers, nothing suggests it.
    """
    long_before = _parse(found["State"]["FinishedAt"]) - _START_SECONDS
    running = [containers.inspect(engine, other["Id"]) for other in engine.containers()]
    started = [_parse(other["State"]["StartedAt"]) for other in running if other is not None]
    return bool(started) and min(started) > long_before


def _parse(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
