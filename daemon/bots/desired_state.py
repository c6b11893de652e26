"""The job that starts, stops or restarts a bot to match its desired state."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import docker
from docker.errors import APIError

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.bots.first_health_check import check_started_bot
from daemon.engine import containers
from daemon.engine.addresses import read_address
from daemon.engine.client import describe_error, open_engine
from daemon.engine.containers import NO_RESTART
from portal.database import Database
from portal.models import Bot, BotState, DesiredState, Node, utcnow
from portal.services import fleet_settings
from portal.services.bots import automatic_starts, desired_state
from portal.services.bots.desired_state import PendingChange
from portal.services.bots.leases import BotBusy

logger = logging.getLogger(__name__)

_STATE_AFTER: dict[DesiredState, tuple[BotState, str | None]] = {
    # The next probe of the node checks the health of the bot.
    DesiredState.RUNNING: (BotState.UNKNOWN, desired_state.JUST_STARTED),
    DesiredState.STOPPED: (BotState.STOPPED, None),
}


def apply_desired_state(database: Database, bot_id: str) -> None:
    """Start, stop or restart a bot's container as its desired state says.

    Every effect happens under the bot's lease and is idempotent, so another worker can repeat it. If another worker
    holds the lease, nothing happens, and the scheduler enqueues the job again. If the engine refuses the start, the
    next attempt is due after a delay that grows.

    Raises:
        EngineUnreachable: the node does not answer; the container may or may not have changed.
    """
    try:
        with BotLease(database, bot_id) as lease:
            _apply(database, lease, bot_id)
    except BotBusy:
        logger.info("bot %s is busy; its desired state is applied later", bot_id)
        return
    check_started_bot(database, bot_id)


def _apply(database: Database, lease: BotLease, bot_id: str) -> None:
    with database.reading() as session:
        change = desired_state.pending_change(session, bot_id)
        if change is None:
            return
        node, install = change.bot.node, fleet_settings.get_settings(session).install_id
    address = None
    with open_engine(node, CALL_SECONDS) as engine:
        found = containers.inspect(engine, change.bot.container_id)
        is_running = found is not None and found["State"]["Running"]
        # A probe may have found the container stopped that another worker or the engine has started since.
        if change.is_restart and (change.bot.is_being_started or not is_running):
            change = replace(change, is_restart=False)  # it only has to start
        if found is not None and (change.is_restart or change.state is DesiredState.STOPPED):
            _stop(engine, lease, change, found)
        if change.state is DesiredState.STOPPED:
            _stop_others(engine, lease, change, install)
        elif found is not None:
            try:
                address = _start(engine, lease, change, node, found)
            except APIError as error:
                _record_failed_start(lease, change, error)
                return
    _record(lease, change, address, is_missing=found is None)


def _stop(engine: docker.APIClient, lease: BotLease, change: PendingChange, found: dict[str, Any]) -> None:
    policy = found["HostConfig"].get("RestartPolicy") or NO_RESTART
    with lease.transaction() as session:
        change.bot.restart_policy = desired_state.save_restart_policy(session, change.bot.id, policy)
    lease.renew_or_raise()
    # With its own policy the container would start again when the engine restarts.
    containers.set_restart_policy(engine, found["Id"], NO_RESTART)
    containers.stop(engine, found["Id"], lease.renew_or_raise)
    if change.is_restart:
        with lease.transaction() as session:
            desired_state.record_stop(session, change.bot.id, utcnow())


def _stop_others(engine: docker.APIClient, lease: BotLease, change: PendingChange, install: str) -> None:
    """Stop what a failed rollback left running, such as the new container."""
    for container_id in containers.list_for_bot(engine, install, change.bot.id):
        if container_id != change.bot.container_id:
            lease.renew_or_raise()
            containers.set_restart_policy(engine, container_id, NO_RESTART)
            containers.stop(engine, container_id, lease.renew_or_raise)


def _start(
    engine: docker.APIClient, lease: BotLease, change: PendingChange, node: Node, found: dict[str, Any]
) -> str | None:
    """Start the container and return its new address."""
    lease.renew_or_raise()
    containers.start(engine, found["Id"])
    if change.bot.restart_policy is not None:
        lease.renew_or_raise()
        containers.set_restart_policy(engine, found["Id"], change.bot.restart_policy)
    started = containers.inspect(engine, found["Id"])
    return read_address(started, node, change.bot.port) if started is not None else None


def _record_failed_start(lease: BotLease, change: PendingChange, error: APIError) -> None:
    reason = describe_error(error)
    logger.warning("bot %s could not be started: %s", change.bot.id, reason)
    with lease.transaction() as session:
        automatic_starts.record_failed_start(session, session.get_one(Bot, change.bot.id), reason, utcnow())


def _record(lease: BotLease, change: PendingChange, address: str | None, *, is_missing: bool) -> None:
    state, detail = _STATE_AFTER[change.state]
    if is_missing:
        state, detail = BotState.MISSING, "The container is gone"
    with lease.transaction() as session:
        desired_state.record_applied(session, change, state=state, detail=detail, address=address, now=utcnow())
