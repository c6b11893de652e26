"""How the bots of a node are: one job looks at all of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import docker
from docker.errors import APIError, NotFound

from daemon.engine.client import EngineUnreachable, connect
from daemon.engine.health_probe import probe_with_retry, read_address
from portal.database import Database
from portal.models import Bot, BotState, Node, new_id, utcnow
from portal.services import leases
from portal.services.bots import nodes, observations
from portal.services.bots.observations import Observation

_ENGINE_SECONDS = 10
_LONGEST_LOOK = timedelta(minutes=2)
"""After so long another worker may look at the node: whoever began has most likely died."""
_SIDE_BY_SIDE = 8


def probe_node(database: Database, node_id: str) -> None:
    """Look at every bot of a node that nobody is at work on, and write down what has changed.

    A node whose engine does not answer is marked offline; of its bots nothing is said, for nothing was seen. While
    another worker looks at the node, nothing happens: a look may outlast the pause until the next is asked for, and
    one node with many sick bots must not take up all workers.
    """
    with database.transaction() as session:
        node = session.get(Node, node_id)
        if node is None:
            return
        look = leases.acquire(session, f"look-{node_id}", new_id(), _LONGEST_LOOK)
        bots = observations.list_observable(session, node_id)
    if look is None:
        return
    try:
        seen = _look_at_all(node, bots)
    except EngineUnreachable as error:
        with database.transaction() as session:
            nodes.record_no_answer(session, node_id, str(error))
            leases.release(session, look)
        return
    with database.transaction() as session:
        nodes.record_answer(session, node_id, utcnow())
        observations.record_observations(session, node_id, seen, utcnow())
        leases.release(session, look)


def _look_at_all(node: Node, bots: Sequence[Bot]) -> list[Observation]:
    engine = connect(node, _ENGINE_SECONDS)
    try:
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(partial(_look, engine, node), bots))
    finally:
        engine.close()


def _look(engine: docker.APIClient, node: Node, bot: Bot) -> Observation:
    saw = partial(Observation, bot.id, str(bot.container_id))
    try:
        inspect: dict[str, Any] = engine.inspect_container(str(bot.container_id))
    except NotFound:
        return saw(BotState.MISSING, "its container is gone from the node", None)
    except APIError as error:
        return saw(BotState.UNKNOWN, f"the engine cannot tell: {error.explanation}", None)
    state = inspect["State"]
    if not state["Running"]:
        return saw(BotState.STOPPED, f"{state['Status']} with status {state['ExitCode']}", None)
    address = read_address(inspect, node, bot.port)
    if address is None:
        return saw(BotState.UNHEALTHY, f"port {bot.port} is not published and cannot be reached", None)
    answer = probe_with_retry(address, bot.health_path)
    if not answer.ok:
        return saw(BotState.UNHEALTHY, answer.detail, address)
    return saw(BotState.RUNNING, None, address)
