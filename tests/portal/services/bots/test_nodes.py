"""Nodes are taken in only when their description makes sense, and remember whether they answer."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, Event, Node, NodeState, Org, User, utcnow
from portal.services.bots import nodes
from portal.services.bots.nodes import NodeSpec
from portal.services.errors import ConflictError, InvalidError, NotFoundError

GOOD = NodeSpec(name="oslo-1", docker_url="unix:///run/docker.sock", snapshot_dir="/var/lib/flotilla")


def tags(database: Database) -> list[str]:
    """What the log tells, oldest first."""
    with database.reading() as session:
        return list(session.scalars(sa.select(Event.tag).order_by(Event.id)))


def test_a_node_is_found_by_its_name(database: Database) -> None:
    with database.transaction() as session:
        added = nodes.add_node(session, GOOD)
        nodes.add_node(session, replace(GOOD, name="bergen"))
    with database.reading() as session:
        assert nodes.get_by_name(session, "oslo-1").id == added.id
        assert [node.name for node in nodes.list_nodes(session)] == ["bergen", "oslo-1"]
        with pytest.raises(NotFoundError, match="no node named mars; the nodes are: bergen, oslo-1"):
            nodes.get_by_name(session, "mars")
    assert tags(database) == ["node.added", "node.added"]


def test_names_are_taken_once_and_the_transaction_goes_on(database: Database) -> None:
    with database.transaction() as session:
        nodes.add_node(session, GOOD)
        with pytest.raises(ConflictError, match="oslo-1 already"):
            nodes.add_node(session, GOOD)
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
def test_what_makes_no_sense_is_refused_by_name(database: Database, field: str, value: Any) -> None:
    with database.transaction() as session, pytest.raises(InvalidError) as refused:
        nodes.add_node(session, replace(GOOD, **{field: value}))
    assert refused.value.field == field


@pytest.mark.parametrize("url", ["tcp://host.example:2376", "https://192.0.2.7:2376", "tcp://[2001:db8::1]:2376"])
@pytest.mark.parametrize("host", ["host_1.example", "192.0.2.7", "2001:db8::1", "::1"])
def test_engines_and_bots_are_reached_by_name_or_address(url: str, host: str) -> None:
    nodes.validate_spec(replace(GOOD, docker_url=url, bot_host=host))


def test_one_engine_is_one_node_but_engines_without_a_name_are_not_alike(database: Database) -> None:
    with database.transaction() as session:
        nodes.add_node(session, replace(GOOD, engine_id="ABCD"))
        with pytest.raises(ConflictError, match="is the node oslo-1 already"):
            nodes.add_node(session, replace(GOOD, name="bergen", engine_id="ABCD"))
        for name in ("voss", "narvik"):
            nodes.add_node(session, replace(GOOD, name=name))
    with database.reading() as session:
        assert [node.name for node in nodes.list_nodes(session)] == ["narvik", "oslo-1", "voss"]


def test_a_node_without_bots_is_removed(database: Database) -> None:
    with database.transaction() as session:
        nodes.remove_node(session, nodes.add_node(session, GOOD))
    with database.reading() as session:
        assert nodes.list_nodes(session) == []
    assert tags(database) == ["node.added", "node.removed"]


@pytest.mark.parametrize(
    ("container_id", "said"), [("1234", "bots are on it: desk"), (None, "history of former bots")]
)
def test_a_node_that_bots_need_stays(database: Database, container_id: str | None, said: str) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, GOOD)
        owner = User(email="a@b.example", email_normalized="a@b.example", name="A")
        session.add(owner)
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=owner.id)
        session.add(org)
        session.flush()
        place = {"org_id": org.id, "node_id": node.id, "container_id": container_id}
        session.add(Bot(name="desk", subdomain="desk", image="ghcr.io/acme/bot:stable", **place))
        session.flush()
        with pytest.raises(ConflictError, match=said):
            nodes.remove_node(session, node)


def test_a_node_goes_offline_and_comes_back_once(database: Database) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, GOOD)
        for _ in range(2):
            nodes.record_no_answer(session, node.id, "no such socket")
        assert (node.state, node.last_error, node.last_seen_at) == (NodeState.OFFLINE, "no such socket", None)
        moment = utcnow()
        for _ in range(2):
            nodes.record_answer(session, node.id, moment)
        assert (node.state, node.last_error, node.last_seen_at) == (NodeState.ACTIVE, None, moment)
    assert tags(database) == ["node.added", "node.offline", "node.online"]


def test_draining_is_an_operators_wish_that_outlives_silence(database: Database) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, GOOD)
        nodes.set_draining(session, node, draining=True)
        nodes.set_draining(session, node, draining=True)
        nodes.record_no_answer(session, node.id, "no such socket")
        nodes.record_answer(session, node.id, utcnow())
        states = [node.state]
        nodes.set_draining(session, node, draining=False)
        states.append(node.state)
    assert states == [NodeState.DRAINING, NodeState.ACTIVE]
    assert tags(database) == ["node.added", "node.changed", "node.changed"]


def test_an_offline_node_is_not_made_active_by_wishing(database: Database) -> None:
    with database.transaction() as session:
        node = nodes.add_node(session, GOOD)
        nodes.record_no_answer(session, node.id, "no such socket")
        nodes.set_draining(session, node, draining=False)
        assert node.state is NodeState.OFFLINE


def test_an_operators_wish_is_not_lost_to_a_worker_who_looks_at_that_moment(database: Database) -> None:
    with database.transaction() as session:
        node_id = nodes.add_node(session, GOOD).id

    def look() -> None:
        with database.transaction() as session:
            nodes.record_no_answer(session, node_id, "no such socket")

    worker = threading.Thread(target=look)
    with database.transaction() as session:
        nodes.set_draining(session, session.get_one(Node, node_id), draining=True)
        session.flush()
        worker.start()
        worker.join(0.3)
    worker.join()
    with database.reading() as session:
        node = session.get_one(Node, node_id)
    assert (node.state, node.last_error) == (NodeState.DRAINING, "no such socket")
