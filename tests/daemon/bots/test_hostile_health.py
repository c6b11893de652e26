"""The probe of a node with hostile bots: each bot is judged apart from the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import BoundedSemaphore
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from daemon.bots import node_probe
from daemon.engine import health_probe
from daemon.engine.client import EngineUnreachable
from portal.database import Database
from portal.models import Bot, BotState, Node, NodeState
from tests import factories
from tests.support.raw_http import response, running_server

HOSTILE = {
    "nested": response(b"[" * 60_000),
    "nested status": response(b'{"status": ' + b"[" * 60_000),
    "surrogate": response(b'{"status": "\\ud800\\u0000"}'),
    "NUL in the status line": b"HTTP/1.1 \0 OK\r\n\r\n",
    "no HTTP": b"\0" * 100,
}
HEALTHY = response(b'{"status": "ok"}')

Inspect = Callable[[str], dict[str, Any]]


class StubEngine:
    """An engine that describes containers by a function."""

    def __init__(self, inspect: Inspect) -> None:
        """Set the function, which is called with the id of a container."""
        self.inspect_container = inspect


@contextmanager
def running_bots(database: Database, answers: Mapping[str, bytes]) -> Iterator[dict[str, dict[str, Any]]]:
    """Add a node with a bot for each answer, and yield the description of each container by its id.

    `received` contains the requests that the bot has received.
    """
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        node = factories.node(session)
        for name in answers:
            factories.bot(session, org, node, name=name, container_id=name, state=BotState.UNKNOWN)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running_server(answer)) for name, answer in answers.items()}
        yield {
            name: describe_container(address) | {"received": received}
            for name, (address, received) in servers.items()
        }


def describe_container(address: str) -> dict[str, Any]:
    """Return an engine's description of a running container whose port is published at an address."""
    port = address.rpartition(":")[2]
    return {
        "State": {"Running": True},
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Ports": {"3100/tcp": [{"HostPort": port}]}},
    }


def probe(database: Database, monkeypatch: pytest.MonkeyPatch, inspect: Inspect) -> dict[str, BotState]:
    """Probe the node and return the states of all bots by name."""

    @contextmanager
    def open_engine(_node: Node, _seconds: int | None = None) -> Iterator[StubEngine]:
        yield StubEngine(inspect)

    monkeypatch.setattr(node_probe, "open_engine", open_engine)
    monkeypatch.setattr(health_probe, "RETRY_PAUSE_SECONDS", 0)
    with database.reading() as session:
        node_id = session.scalars(sa.select(Node.id)).one()
    node_probe.probe_node(database, node_id)
    with database.reading() as session:
        assert session.get_one(Node, node_id).state is NodeState.ACTIVE
        return {bot.name: bot.state for bot in session.scalars(sa.select(Bot))}


def test_hostile_answers_do_not_affect_other_bots(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_bots(database, {**HOSTILE, "healthy": HEALTHY}) as containers:
        states = probe(database, monkeypatch, containers.__getitem__)
    assert states == {**dict.fromkeys(HOSTILE, BotState.UNHEALTHY), "healthy": BotState.RUNNING}
    with database.reading() as session:
        details = list(session.scalars(sa.select(Bot.state_detail).where(Bot.state == BotState.UNHEALTHY)))
    assert all(detail and detail.startswith("Health check failed: ") and "\0" not in detail for detail in details)


@pytest.mark.parametrize("error", [EngineUnreachable("timed out"), KeyError("State"), RecursionError()])
def test_container_that_cannot_be_inspected_does_not_affect_other_bots(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with running_bots(database, {"broken": HEALTHY, "healthy": HEALTHY}) as containers:

        def inspect(container_id: str) -> dict[str, Any]:
            if container_id == "broken":
                raise error
            return containers[container_id]

        states = probe(database, monkeypatch, inspect)
    assert states == {"broken": BotState.UNKNOWN, "healthy": BotState.RUNNING}


def test_job_begins_no_probe_after_its_time_and_the_next_job_continues(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(node_probe, "time", SimpleNamespace(monotonic=lambda: seconds))
    monkeypatch.setattr(node_probe, "_PARALLEL_CALLS", 1)
    names = [f"bot {number}" for number in range(5)]
    probed: list[str] = []

    def inspect(container_id: str) -> dict[str, Any]:
        nonlocal seconds
        seconds += 0.6 * node_probe._BEGIN_SECONDS
        probed.append(container_id)
        return {"State": {"Running": False, "Status": "exited", "ExitCode": 1}}

    with running_bots(database, dict.fromkeys(names, HEALTHY)):
        jobs = []
        for _ in range(3):
            probe(database, monkeypatch, inspect)
            jobs.append(len(probed))

    assert jobs == [2, 4, 6]
    assert set(probed[:5]) == set(names)
    assert probed[5] == probed[0]


def test_few_calls_of_the_engine_run_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_probe, "_PARALLEL_CALLS", 1)
    calls = BoundedSemaphore(1)
    names = [f"bot {number}" for number in range(8)]

    def inspect(container_id: str) -> dict[str, Any]:
        assert calls.acquire(blocking=False)
        time.sleep(0.001)
        calls.release()
        return containers[container_id]

    with running_bots(database, dict.fromkeys(names, HEALTHY)) as containers:
        states = probe(database, monkeypatch, inspect)

    assert states == dict.fromkeys(names, BotState.RUNNING)


@pytest.mark.parametrize(("state", "probes"), [(BotState.RUNNING, 2), (BotState.UNHEALTHY, 1)])
def test_only_a_bot_that_was_healthy_is_probed_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, state: BotState, probes: int
) -> None:
    with running_bots(database, {"broken": response(b"", "503 Busy")}) as containers:
        with database.transaction() as session:
            session.execute(sa.update(Bot).values(state=state))
        assert probe(database, monkeypatch, containers.__getitem__) == {"broken": BotState.UNHEALTHY}
        assert len(containers["broken"]["received"]) == probes
