"""The job that probes the bots of a node and records their states.

Bots may be slow or hostile. Probes have deadlines, and calls of the engine begin within `_BEGIN_SECONDS`, so the job
ends within a minute. It begins with the bots that were not probed for the longest time, and the next job continues
with the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
from docker.errors import APIError, NotFound

from daemon.engine.addresses import read_address
from daemon.engine.client import EngineUnreachable, open_engine
from daemon.engine.container_list import list_running
from daemon.engine.health_probe import HealthCheck, ProbeResult
from daemon.engine.parallel_probes import Target, probe_all
from daemon.engine.stopped_containers import describe_stop, read_stop_cause
from portal.database import Database
from portal.models import Bot, BotState, DesiredState, Node, new_id, utcnow
from portal.services import leases
from portal.services.bots import nodes, observations
from portal.services.bots.observations import Observation

logger = logging.getLogger(__name__)

_CALL_SECONDS = 10
_LEASE_DURATION = timedelta(minutes=2)
"""After this time another worker may probe the node, because the first one has died: no job takes that long."""
_BEGIN_SECONDS = 20.0
"""Seconds within which calls of the engine begin."""
_PARALLEL_PROBES = 500
"""Bots that do not answer cost time, but hardly any work. Each probe holds a socket."""
_PARALLEL_CALLS = 8
"""Calls of the engine cost work on its node."""


def probe_node(database: Database, node_id: str) -> None:
    """Probe the bots of a node whose lease is free and record their states.

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
        observed = _probe_bots(node, sorted(bots, key=_checked_at))
    except EngineUnreachable as error:
        with database.transaction() as session:
            nodes.record_no_answer(session, node_id, str(error))
            leases.release(session, lease)
        return
    with database.transaction() as session:
        nodes.record_answer(session, node_id, utcnow())
        observations.record_observations(session, node_id, observed, utcnow())
        leases.release(session, lease)


def _checked_at(bot: Bot) -> datetime:
    return bot.checked_at or datetime.min.replace(tzinfo=UTC)


def _probe_bots(node: Node, bots: Sequence[Bot]) -> list[Observation]:
    with open_engine(node, _CALL_SECONDS) as engine:
        node_probe = _NodeProbe(engine, node, time.monotonic() + _BEGIN_SECONDS)
        found = node_probe.inspect_bots(bots)
    targets = {bot.id: _choose_target(bot, each) for bot, each in found if isinstance(each, str)}
    results = dict(zip(targets, probe_all(list(targets.values()), _PARALLEL_PROBES), strict=True))
    if node_probe.saw_no_answer:
        # An engine that still accepts connections does not answer about some containers only.
        with open_engine(node, _CALL_SECONDS):
            pass
    return [
        each if isinstance(each, Observation) else _judge(bot, each, results[bot.id])
        for bot, each in found
        if each is not None
    ]


def _choose_target(bot: Bot, address: str) -> Target:
    # The second probe protects bots that were healthy.
    return Target(address, HealthCheck.of(bot), retry=bot.state is not BotState.UNHEALTHY)


def _judge(bot: Bot, address: str, result: ProbeResult) -> Observation:
    if not result.ok:
        return _observe(bot, BotState.UNHEALTHY, f"Health check failed: {result.detail}", address)
    return _observe(bot, BotState.RUNNING, None, address)


class _NodeProbe:
    """What the engine of a node says about its bots.

    Args:
        engine: the engine of the node.
        node: the node.
        begin_until: the moment after which no container is inspected, by the monotonic clock.

    Attributes:
        saw_no_answer: whether the engine did not answer about a container.
    """

    def __init__(self, engine: docker.APIClient, node: Node, begin_until: float) -> None:
        self._engine = engine
        self._node = node
        self._begin_until = begin_until
        self._running: dict[str, dict[str, Any]] = {}
        self.saw_no_answer = False

    def inspect_bots(self, bots: Sequence[Bot]) -> list[tuple[Bot, str | Observation | None]]:
        """Return the address of each bot that runs, the observation of each other bot, and None without time left.

        One call lists all containers that run. Only the others are inspected one by one.
        """
        self._running = list_running(self._engine)
        with ThreadPoolExecutor(_PARALLEL_CALLS) as pool:
            return list(zip(bots, pool.map(self._inspect_bot, bots), strict=True))

    def _inspect_bot(self, bot: Bot) -> str | Observation | None:
        """Inspect one bot. An engine that does not answer about its container affects no other bot of the node."""
        try:
            inspect = self._running.get(str(bot.container_id))
            if inspect is None:
                if time.monotonic() > self._begin_until:
                    return None
                inspect = self._engine.inspect_container(str(bot.container_id))
            return self._read_address(bot, inspect)
        except NotFound:
            return _observe(bot, BotState.MISSING, "The container is gone from the node")
        except APIError as error:
            return _observe(bot, BotState.UNKNOWN, f"The engine refused: {error.explanation}")
        except EngineUnreachable:
            self.saw_no_answer = True
            return _observe(bot, BotState.UNKNOWN, "The engine does not answer about the container")
        except Exception as error:
            logger.exception("the probe of bot %s failed", bot.id)
            return _observe(bot, BotState.UNKNOWN, f"The probe failed ({type(error).__name__})")

    def _read_address(self, bot: Bot, inspect: dict[str, Any]) -> str | Observation:
        if not inspect["State"]["Running"]:
            return self._judge_stopped(bot, inspect)
        detail = f"Port {bot.port} is not published and cannot be reached"
        return read_address(inspect, self._node, bot.port) or _observe(bot, BotState.UNHEALTHY, detail)

    def _judge_stopped(self, bot: Bot, inspect: dict[str, Any]) -> Observation:
        observation = _observe(bot, BotState.STOPPED, describe_stop(inspect))
        if bot.state is BotState.STOPPED or bot.desired_state is DesiredState.STOPPED:
            return observation
        # The cause is read once: later the engine may have forgotten that a person stopped the container.
        return replace(observation, stop_cause=read_stop_cause(self._node, inspect))


def _observe(bot: Bot, state: BotState, detail: str | None, address: str | None = None) -> Observation:
    return Observation(bot.id, str(bot.container_id), state, detail, address)
