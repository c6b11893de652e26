"""The job that probes all bots of a node and records their states."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import docker
from docker.errors import APIError, NotFound

from daemon.engine.addresses import read_address
from daemon.engine.client import EngineUnreachable, open_engine
from daemon.engine.health_probe import HealthCheck, probe_with_retry
from portal.database import Database
from portal.models import Bot, BotState, Node, new_id, utcnow
from portal.services import leases
from portal.services.bots import nodes, observations
from portal.services.bots.observations import Observation

logger = logging.getLogger(__name__)

_CALL_SECONDS = 10
_LEASE_DURATION = timedelta(minutes=2)
"""After this time another worker may probe the node, because the first one has probably died."""
_PARALLEL_PROBES = 8


def probe_node(database: Database, node_id: str) -> None:
    """Probe every bot of a node whose lease is free and record its state.

    A node whose engine does not answer is marked offline, and the states of its bots stay as they are. While another
    worker probes the node, nothing happens: a probe may take longer than the interval between two probes, and one
    node with many unhealthy bots must not occupy all workers.
    """
    with database.transaction() as session:
        node = session.get(Node, node_id)
        if node is None:
            return
        lease = leases.acquire(session, f"look-{node_id}", new_id(), _LEASE_DURATION)
        bots = observations.list_observable(session, node_id)
    if lease is None:
        return
    try:
        observed = _probe_bots(node, bots)
    except EngineUnreachable as error:
        with database.transaction() as session:
            nodes.record_no_answer(session, node_id, str(error))
            leases.release(session, lease)
        return
    with database.transaction() as session:
        nodes.record_answer(session, node_id, utcnow())
        observations.record_observations(session, node_id, observed, utcnow())
        leases.release(session, lease)


def _probe_bots(node: Node, bots: Sequence[Bot]) -> list[Observation]:
    with open_engine(node, _CALL_SECONDS) as engine, ThreadPoolExecutor(_PARALLEL_PROBES) as pool:
        observed = list(pool.map(partial(_probe_apart, engine, node), bots))
    if None in observed:
        # An engine that still accepts connections does not answer about some containers only.
        with open_engine(node, _CALL_SECONDS):
            pass
    return [
        observation or _observe(bot, BotState.UNKNOWN, "The engine does not answer about the container")
        for bot, observation in zip(bots, observed, strict=True)
    ]


def _probe_apart(engine: docker.APIClient, node: Node, bot: Bot) -> Observation | None:
    """Probe one bot. No answer of its container or of the engine affects the other bots of the node.

    Returns:
        None when the engine does not answer.
    """
    try:
        return _probe_bot(engine, node, bot)
    except EngineUnreachable:
        return None
    except Exception as error:
        logger.exception("the probe of bot %s failed", bot.id)
        return _observe(bot, BotState.UNKNOWN, f"The probe failed ({type(error).__name__})")


def _observe(bot: Bot, state: BotState, detail: str | None, address: str | None = None) -> Observation:
    return Observation(bot.id, str(bot.container_id), state, detail, address)


def _probe_bot(engine: docker.APIClient, node: Node, bot: Bot) -> Observation:
    observe = partial(_observe, bot)
    try:
        inspect: dict[str, Any] = engine.inspect_container(str(bot.container_id))
    except NotFound:
        return observe(BotState.MISSING, "The container is gone from the node")
    except APIError as error:
        return observe(BotState.UNKNOWN, f"The engine refused: {error.explanation}")
    state = inspect["State"]
    if not state["Running"]:
        return observe(BotState.STOPPED, f"{state['Status'].capitalize()} with status {state['ExitCode']}")
    address = read_address(inspect, node, bot.port)
    if address is None:
        return observe(BotState.UNHEALTHY, f"Port {bot.port} is not published and cannot be reached")
    result = probe_with_retry(address, HealthCheck.of(bot))
    if not result.ok:
        return observe(BotState.UNHEALTHY, f"Health check failed: {result.detail}", address)
    return observe(BotState.RUNNING, None, address)
