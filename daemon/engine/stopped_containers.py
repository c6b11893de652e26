"""Containers that have stopped: why, and what to do about it. Used by probes and updates of bots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, cast

import docker

from daemon.engine.client import limit_stream, open_engine
from daemon.engine.port_conflicts import explain_port_conflict
from portal.models import Node
from portal.rules.stop_causes import StopCause, find_stop_cause

_READ_SECONDS = 10.0
_STATUS_AFTER_CRASH = 255


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
        by_person = any(_list_events(engine, found, ["stop", "kill"]))
    state = found["State"]
    policy = found["HostConfig"].get("RestartPolicy") or {}
    return find_stop_cause(policy, state["ExitCode"], found.get("RestartCount", 0), by_person=by_person)


def has_ended_with_engine(engine: docker.APIClient, found: dict[str, Any]) -> bool:
    """Return whether a crash of the engine ended a container, rather than its own program.

    When the engine starts again, it records status 255 for such a container, and does not remember its end.

    Args:
        engine: the engine of the container.
        found: the engine's description of the container.
    """
    state = found["State"]
    if state["Running"] or state["ExitCode"] != _STATUS_AFTER_CRASH:
        return False
    return not any(_list_events(engine, found, ["die"]))


def describe_stop(found: dict[str, Any]) -> str:
    """Describe the state of a stopped container for an operator, with the engine's error if it could not start."""
    state = found["State"]
    text = f"{state['Status'].capitalize()} with status {state['ExitCode']}"
    return f"{text}: {explain_port_conflict(state['Error'])}" if state.get("Error") else text


def _list_events(engine: docker.APIClient, found: dict[str, Any], kinds: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a container since its last start that the engine remembers.

    The engine keeps its latest events in memory. After a restart of the engine there are none.
    """
    started = max(_parse(found["State"]["StartedAt"]), 0.0)
    now = _parse(engine.info()["SystemTime"])  # events have the time of the engine's clock
    # Text, because the library rounds moments to seconds.
    since, until = cast("Any", f"{started:.6f}"), cast("Any", f"{now:.6f}")
    filters = {"type": "container", "container": found["Id"], "event": kinds}
    with (
        limit_stream(_READ_SECONDS, "the reading of events"),
        closing(engine.events(since=since, until=until, filters=filters, decode=True)) as stream,
    ):
        yield from stream


def _parse(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
