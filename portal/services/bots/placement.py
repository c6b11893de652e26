"""Placement: which node and which port a new bot gets. Used by the creation of bots.

The caller holds the lock of the bot template, so that two creations never choose the same port. The unique constraint
on node and port would refuse the second one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, Node, NodeState
from portal.services.errors import ConflictError


class NoRoomError(ConflictError):
    """No node can take a new bot."""


@dataclass(frozen=True)
class Place:
    """A node and a free port of its range."""

    node: Node
    port: int


def choose_place(session: Session, node: Node | None = None) -> Place:
    """Choose the active node with the fewest bots and a free port, and its lowest free port.

    Args:
        session: a writing transaction that holds the lock of the template.
        node: the node that an operator has chosen; None for any node.

    Raises:
        NoRoomError: no node, or not the chosen one, is active and has a free port.
    """
    ports, counts = _load_usage(session)
    nodes = [node] if node is not None else session.scalars(sa.select(Node).order_by(Node.name)).all()
    for candidate in sorted(nodes, key=lambda found: counts[found.id]):
        port = _find_free_port(candidate, ports[candidate.id])
        if candidate.state is NodeState.ACTIVE and port is not None:
            return Place(candidate, port)
    raise NoRoomError(_describe_refusal(node))


def find_next_port(session: Session, bot: Bot) -> int | None:
    """Return the next free port after the one of a bot, from the beginning of the range after its end.

    Returns:
        None when all other ports of the node are in use.
    """
    ports, _ = _load_usage(session)
    node, current = bot.node, bot.host_port or 0
    later = _find_free_port(node, ports[node.id], after=current)
    return later if later is not None else _find_free_port(node, ports[node.id])


def _load_usage(session: Session) -> tuple[dict[str, set[int]], Counter[str]]:
    """Return the ports in use and the number of bots, both by node."""
    ports: dict[str, set[int]] = defaultdict(set)
    counts: Counter[str] = Counter()
    bots = sa.select(Bot.node_id, Bot.host_port, Bot.address).where(Bot.phase != BotPhase.REMOVED)
    for node_id, host_port, address in session.execute(bots):
        counts[node_id] += 1
        # Adopted bots have no reserved port, but their containers may publish one of the node's range.
        observed = (address or "").rpartition(":")[2]
        ports[node_id] |= {host_port} if host_port else {int(observed)} if observed.isdecimal() else set()
    return ports, counts


def _find_free_port(node: Node, used: set[int], after: int = 0) -> int | None:
    first = max(node.port_first, after + 1)
    return next((port for port in range(first, node.port_last + 1) if port not in used), None)


def _describe_refusal(node: Node | None) -> str:
    if node is None:
        return "No active node has a free port. Add a node with `flotilla nodes add`, or activate one."
    if node.state is not NodeState.ACTIVE:
        return f"Node {node.name} is {node.state}. Choose an active node."
    return f"Node {node.name} has no free port from {node.port_first} to {node.port_last}. Choose another node."
