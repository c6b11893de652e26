"""Nodes: add, remove, find, drain, and record whether their engines answer. Used by commands, pages and jobs."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import ForUpdateArg

from portal.models import Bot, BotPhase, EventTag, Node, NodeState
from portal.services import events
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.events import Actor

# Serializes changes of a node by operators and workers. Rows that refer to the node can still be inserted.
_LOCK = ForUpdateArg(key_share=True)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PORTS = range(1, 2**16)
_MAX_URL_LENGTH = 255


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """Description of a new node by an operator; see `Node` for the fields."""

    name: str
    docker_url: str
    snapshot_dir: str
    bot_host: str = "127.0.0.1"
    port_first: int = 20000
    port_last: int = 29999
    platform: str = "linux/amd64"
    tls: dict[str, Any] | None = None
    engine_id: str | None = None


def add_node(session: Session, new: NodeSpec, *, actor: Actor = None) -> Node:
    """Add a Docker engine to the fleet.

    Args:
        session: a writing transaction.
        new: description of the node.
        actor: the operator.

    Raises:
        InvalidError: a field is not valid; the error names the field.
        ConflictError: the name is taken, or the engine already is a node.
    """
    validate_spec(new)
    node = Node(**vars(new))
    try:
        with session.begin_nested():
            session.add(node)
    except IntegrityError:
        raise ConflictError(_describe_conflict(session, new)) from None
    events.record(session, EventTag.NODE_ADDED, actor=actor, data={"node": node.id, "name": node.name})
    return node


def remove_node(session: Session, node: Node, *, actor: Actor = None) -> None:
    """Remove a node from the fleet without touching its engine.

    Raises:
        ConflictError: the node has or had bots, whose history refers to it.
    """
    # A simultaneous adoption waits for this lock. Afterwards the foreign key refuses a bot on the removed node.
    session.refresh(node, with_for_update=True)
    bots = session.scalars(sa.select(Bot).where(Bot.node_id == node.id).order_by(Bot.name)).all()
    if names := ", ".join(bot.name for bot in bots if bot.phase is not BotPhase.REMOVED):
        raise ConflictError(f"Node {node.name} cannot be removed while it has bots: {names}.")
    if bots:
        raise ConflictError(
            f"Node {node.name} cannot be removed because the history of former bots refers to it. Drain it instead."
        )
    session.delete(node)
    session.flush()
    events.record(session, EventTag.NODE_REMOVED, actor=actor, data={"node": node.id, "name": node.name})


def get_by_name(session: Session, name: str) -> Node:
    """Return the node with this name.

    Raises:
        NotFoundError: there is no such node; the message lists all nodes.
    """
    node = session.scalar(sa.select(Node).where(Node.name == name))
    if node is None:
        names = ", ".join(session.scalars(sa.select(Node.name).order_by(Node.name))) or "none yet"
        raise NotFoundError(f"There is no node named {name}. Nodes: {names}.")
    return node


def get_node(session: Session, node_id: str) -> Node:
    """Return the node with this id.

    Raises:
        NotFoundError: there is no such node.
    """
    node = session.get(Node, node_id)
    if node is None:
        raise NotFoundError("Node not found.")
    return node


def list_with_bot_counts(session: Session) -> list[tuple[Node, int]]:
    """Return all nodes, by name, each with its number of bots."""
    bots = (
        sa.select(sa.func.count())
        .where(Bot.node_id == Node.id, Bot.phase != BotPhase.REMOVED)
        .correlate(Node)
        .scalar_subquery()
    )
    return [(node, count) for node, count in session.execute(sa.select(Node, bots).order_by(Node.name))]


def list_nodes(session: Session) -> list[Node]:
    """Return all nodes, by name."""
    return list(session.scalars(sa.select(Node).order_by(Node.name)))


def set_draining(session: Session, node: Node, draining: bool, *, actor: Actor = None) -> None:
    """Start or stop draining a node. A draining node gets no updates and no new bots."""
    session.refresh(node, with_for_update=_LOCK)
    old = node.state
    new = NodeState.DRAINING if draining else NodeState.ACTIVE
    if old is new or (old is NodeState.OFFLINE and not draining):
        return
    node.state = new
    data = {"node": node.id, "name": node.name, "old": old, "new": new}
    events.record(session, EventTag.NODE_CHANGED, actor=actor, data=data)


def record_answer(session: Session, node_id: str, now: datetime) -> None:
    """Record that the engine answered. An offline node becomes active."""
    node = session.get_one(Node, node_id)
    session.refresh(node, with_for_update=_LOCK)
    node.last_seen_at, node.last_error = now, None
    if node.state is NodeState.OFFLINE:
        node.state = NodeState.ACTIVE
        events.record(session, EventTag.NODE_ONLINE, data={"node": node.id, "name": node.name})


def record_no_answer(session: Session, node_id: str, error: str) -> None:
    """Record that the engine did not answer. An active node becomes offline; a draining node stays draining."""
    node = session.get_one(Node, node_id)
    session.refresh(node, with_for_update=_LOCK)
    node.last_error = error
    if node.state is NodeState.ACTIVE:
        node.state = NodeState.OFFLINE
        events.record(session, EventTag.NODE_OFFLINE, data={"node": node.id, "name": node.name, "error": error})


def validate_spec(new: NodeSpec) -> None:
    """Check the fields of a new node, without contacting its engine.

    Raises:
        InvalidError: a field is not valid; the error names the field.
    """
    if not _NAME.fullmatch(new.name):
        raise InvalidError("Use up to 63 lower-case letters, digits and dashes for the name.", "name")
    if not _is_engine_url(new.docker_url):
        raise InvalidError("Enter the engine's address as unix:///path/of/socket or tcp://host:port.", "docker_url")
    if not _is_host(new.bot_host):
        raise InvalidError("Enter the host of published ports as a name or IP address, without a port.", "bot_host")
    if new.tls is not None and new.docker_url.startswith("unix://"):
        raise InvalidError("An engine on a Unix socket uses no certificates. Leave them out.", "tls")
    folder = PurePosixPath(new.snapshot_dir)
    # The engine uses colons as separators in mounts.
    if not folder.is_absolute() or len(folder.parts) < 3 or ".." in folder.parts or ":" in new.snapshot_dir:
        raise InvalidError(
            "Enter an absolute folder for the snapshots, such as /var/lib/flotilla, without a colon.",
            "snapshot_dir",
        )
    if new.port_first not in _PORTS or new.port_last not in _PORTS or new.port_first > new.port_last:
        raise InvalidError("Enter ports from 1 to 65535, the first not above the last.", "port_first")


def _describe_conflict(session: Session, new: NodeSpec) -> str:
    # Engines without an id are not the same engine.
    same = new.engine_id and session.scalar(sa.select(Node.name).where(Node.engine_id == new.engine_id))
    if not same:
        return f"There is already a node named {new.name}. Choose another name."
    return (
        f"This Docker engine already is the node {same}. If its machine was cloned, delete"
        " /var/lib/docker/engine-id on the clone and restart Docker there."
    )


def _is_engine_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if len(url) > _MAX_URL_LENGTH:
        return False
    if parts.scheme == "unix":
        return not parts.netloc and len(parts.path) > 1
    return parts.scheme in {"tcp", "https"} and bool(port) and _is_host(parts.hostname or "")


def _is_host(text: str) -> bool:
    if _HOST.fullmatch(text):
        return True
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
