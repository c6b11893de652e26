"""Limits of the job that probes a node: a short time limit per call, and one worker per node."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from daemon.bots import node_probe
from demo.processes import free_port
from portal.database import Database
from portal.models import Node
from portal.services import leases
from tests.daemon.rows import add_node


def load_last_error(database: Database, node: Node) -> str | None:
    """Return the recorded error of a node."""
    with database.reading() as session:
        return session.get_one(Node, node.id).last_error


def test_silent_engine_occupies_a_worker_only_briefly(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit also applies to the first call, which reads the version."""
    monkeypatch.setattr(node_probe, "_CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = add_node(database, docker_url=f"tcp://127.0.0.1:{silent.getsockname()[1]}")

        node_probe.probe_node(database, node.id)

    assert "0.2" in str(load_last_error(database, node))


def test_one_worker_probes_a_node_at_a_time(database: Database) -> None:
    """A probe may take longer than the interval between two probes."""
    node = add_node(database, docker_url=f"tcp://127.0.0.1:{free_port()}")
    with database.transaction() as session:
        held = leases.acquire(session, f"look-{node.id}", "another worker", timedelta(minutes=1))
    assert held is not None

    node_probe.probe_node(database, node.id)
    assert load_last_error(database, node) is None

    with database.transaction() as session:
        leases.release(session, held)
    for _ in range(2):
        node_probe.probe_node(database, node.id)
        assert "does not answer" in str(load_last_error(database, node))
        with database.transaction() as session:
            session.get_one(Node, node.id).last_error = None
