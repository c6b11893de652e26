"""Nodes: validation, lookup, removal, and recorded answers of their engines."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import BotPhase, Event, Node, NodeState, utcnow
from portal.services.bots import nodes
from portal.services.bots.nodes import NodeSpec
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from tests import factories

SPEC = NodeSpec(name="oslo-1", docker_url="unix:///run/docker.sock", snapshot_dir="/var/lib/flotilla")


def list_tags(database: Database) -> list[str]:
    """Return the list_tags of all events, oldest first."""
    with database.reading() as session:
        return list(session.scalars(sa.select(Event.tag).order_by(Event.id)))


def test_node_is_found_by_its_name(database: Database) -> None:
    with database.transaction() as session:
        added = nodes.add_node(session, SPEC)
        nodes.add_node(session, replace(SPEC, name="bergen"))
    with database.reading() as session:
        assert nodes.get_by_name(session, "oslo-1").id == added.id
        assert [node.name for node in nodes.list_nodes(session)] == ["bergen", "oslo-1"]
        with pytest.raises(NotFoundError, match=r"no node named mars\. Nodes: bergen, oslo-1"):
            nodes.get_by_name(session, "mars")
    assert list_tags(database) == ["node.added", "node.added"]


def test_taken_name_is_refused_without_ending_the_transaction(database: Database) -> None:
    with database.transaction() as session:
        nodes.add_node(session, SPEC)
        with pytest.raises(ConflictError, match="already a node named oslo-1"):
            nodes.add_node(session, SPEC)
    with database.reading() as session:
        assert len(nodes.list_nodes(session)) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Oslo"),
        ("name", "-oslo"),
        ("name", "o" * 64),
        ("docker_url", "/run/docker.sock"),
        ("docker_url", "ssh://host"),
        ("docker_url", "tcp://:bad"),
        ("docker_url", "tcp://:2375"),
        ("docker_url", "tcp://host"),
        ("docker_url", "tcp://[::1:2375"),
        ("docker_url", "tcp://x y:2375"),
        ("docker_url", "tcp://host:2375" + "0" * 300),
        ("docker_url", "unix://"),
        ("bot_host", ""),
        ("bot_host", "x y"),
        ("bot_host", "http://host"),
        ("bot_host", "host:80"),
        ("bot_host", "h" * 256),
        ("snapshot_dir", "snapshots"),
        ("snapshot_dir", "/"),
        ("snapshot_dir", "/var"),
        ("snapshot_dir", "/var/lib:ro"),
        ("snapshot_dir", "/var/lib/../.."),
        ("tls", {"ca": "/ca.pem"}),
        ("port_first", 0),
        ("port_first", 30000),
    ],
)
def test_invalid_field_is_named_in_the_error(database: Database, field: str, value: Any) -> None:
    with database.transaction() as session, pytest.raises(InvalidError) as refused:
        nodes.add_node(session, replace(SPEC, **{field: value}))
    assert refused.value.field == field


@pytest.mark.parametrize("url", ["tcp://host.example:2376", "https://192.0.2.7:2376", "tcp://[2001:db8::1]:2376"])
@pytest.mark.parametrize("host", ["host_1.example", "192.0.2.7", "2001:db8::1", "::1"])
def test_host_names_and_ip_addresses_are_valid(url: str, host: str) -> None:
    nodes.validate_spec(replace(SPEC, docker_url=url, bot_host=host))


def test_engine_can_be_one_node_only_unless_it_has_no_id(database: Database) -> None:
    with database.transaction() as session:
        nodes.add_node(session, replace(SPEC, engine_id="ABCD"))
        with pytest.raises(ConflictError, match="already is the node oslo-1"):
            nodes.add_node(session, replace(SPEC, name="bergen", engine_id="ABCD"))
        for name in ("voss", "narvik"):
            nodes.add_node(session, replace(SPEC, name=name))
    with database.reading() as session:
        assert [node.name for node in nodes.list_nodes(session)] == ["narvik", "oslo-1", "voss"]


def test_node_without_bots_is_removed(database: Database) -> None:
    with database.transaction() as session:
        nodes.remove_node(session, nodes.add_node(session, SPEC))
    with database.reading() as session:
        assert nodes.list_nodes(session) == []
    assert list_tags(database) == ["node.added", "node.removed"]


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (BotPhase.ACTIVE, "while it has bots: desk"),
        (BotPhase.CREATING, "while it has bots: desk"),
        (BotPhase.REMOVED, "history of former bots"),
    ],
)
def test_node_with_current_or_former_bots_is_not_removed(database: Database, phase: BotPhase, message: str) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, SPEC)
        org = factories.org(session, factories.user(session))
        factories.bot(session, org, node, name="desk", phase=phase)
        with pytest.raises(ConflictError, match=message):
            nodes.remove_node(session, node)


def test_node_goes_offline_and_online_with_one_event_each(database: Database) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, SPEC)
        for _ in range(2):
            nodes.record_no_answer(session, node.id, "no such socket")
        assert (node.state, node.last_error, node.last_seen_at) == (NodeState.OFFLINE, "no such socket", None)
        moment = utcnow()
        for _ in range(2):
            nodes.record_answer(session, node.id, moment)
        assert (node.state, node.last_error, node.last_seen_at) == (NodeState.ACTIVE, None, moment)
    assert list_tags(database) == ["node.added", "node.offline", "node.online"]


def test_draining_node_stays_draining_when_its_engine_does_not_answer(database: Database) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, SPEC)
        nodes.set_draining(session, node, draining=True)
        nodes.set_draining(session, node, draining=True)
        nodes.record_no_answer(session, node.id, "no such socket")
        nodes.record_answer(session, node.id, utcnow())
        states = [node.state]
        nodes.set_draining(session, node, draining=False)
        states.append(node.state)
    assert states == [NodeState.DRAINING, NodeState.ACTIVE]
    assert list_tags(database) == ["node.added", "node.changed", "node.changed"]


def test_offline_node_does_not_become_active_when_draining_ends(database: Database) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, SPEC)
        nodes.record_no_answer(session, node.id, "no such socket")
        nodes.set_draining(session, node, draining=False)
        assert node.state is NodeState.OFFLINE


def test_draining_is_not_lost_to_a_simultaneous_worker(database: Database) -> None:
    with database.transaction() as session:
        node_id = nodes.add_node(session, SPEC).id

    def record() -> None:
        with database.transaction() as session:
            nodes.record_no_answer(session, node_id, "no such socket")

    worker = threading.Thread(target=record)
    with database.transaction() as session:
        nodes.set_draining(session, session.get_one(Node, node_id), draining=True)
        session.flush()
        worker.start()
        worker.join(0.3)
    worker.join()
    with database.reading() as session:
        node = session.get_one(Node, node_id)
    assert (node.state, node.last_error) == (NodeState.DRAINING, "no such socket")
