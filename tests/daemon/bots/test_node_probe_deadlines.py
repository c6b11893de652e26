"""Looking at the bots of a node takes one worker, and not for long when the node is silent."""

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


def said(database: Database, node: Node) -> str | None:
    """What is written down of a node that did not answer."""
    with database.reading() as session:
        return session.get_one(Node, node.id).last_error


def test_an_engine_that_never_answers_is_given_up_soon(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call, which asks for its version, has no more time than any other."""
    monkeypatch.setattr(node_probe, "_ENGINE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = add_node(database, docker_url=f"tcp://127.0.0.1:{silent.getsockname()[1]}")

        node_probe.probe_node(database, node.id)

    assert "read timeout=0.2" in str(said(database, node))


def test_one_worker_looks_at_a_node_at_a_time(database: Database) -> None:
    """A look may last longer than the pause until the next is asked for."""
    node = add_node(database, docker_url=f"tcp://127.0.0.1:{free_port()}")
    with database.transaction() as session:
        held = leases.acquire(session, f"look-{node.id}", "another worker", timedelta(minutes=1))
    assert held is not None

    node_probe.probe_node(database, node.id)
    assert said(database, node) is None

    with database.transaction() as session:
        leases.release(session, held)
    for _ in range(2):
        node_probe.probe_node(database, node.id)
        assert "does not answer" in str(said(database, node))
        with database.transaction() as session:
            session.get_one(Node, node.id).last_error = None
