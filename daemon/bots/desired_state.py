"""The job that starts or stops a bot to match its desired state."""

from __future__ import annotations

import logging

import docker

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine import containers
from daemon.engine.client import open_engine
from daemon.engine.containers import NO_RESTART
from portal.database import Database
from portal.models import Bot, BotState, DesiredState, utcnow
from portal.services.bots import desired_state
from portal.services.bots.leases import BotBusy

logger = logging.getLogger(__name__)


def apply_desired_state(database: Database, bot_id: str) -> None:
    """Stop or start a bot's container if its applied state differs from its desired state.

    Every effect happens under the bot's lease and is idempotent, so another worker can repeat it. If another worker
    holds the lease, nothing happens, and the scheduler enqueues the job again.

    Raises:
        EngineUnreachable: the node does not answer; the container may or may not have changed.
    """
    try:
        with BotLease(database, bot_id) as lease:
            _apply(database, lease, bot_id)
    except BotBusy:
        logger.info("bot %s is busy; its desired state is applied later", bot_id)


def _apply(database: Database, lease: BotLease, bot_id: str) -> None:
    with database.reading() as session:
        pending = desired_state.pending_change(session, bot_id)
        bot = session.get_one(Bot, bot_id)
        node = bot.node
    if pending is None:
        return
    with open_engine(node, CALL_SECONDS) as engine:
        if pending is DesiredState.STOPPED:
            _stop(engine, lease, bot)
        else:
            _start(engine, lease, bot)


def _stop(engine: docker.APIClient, lease: BotLease, bot: Bot) -> None:
    found = containers.inspect(engine, bot.container_id)
    if found is not None:
        with lease.transaction() as session:
            desired_state.save_restart_policy(session, bot.id, found["HostConfig"].get("RestartPolicy") or NO_RESTART)
        lease.renew_or_raise()
        # With its own policy the container would start again when the engine restarts.
        containers.set_restart_policy(engine, found["Id"], NO_RESTART)
        containers.stop(engine, found["Id"], lease.renew_or_raise)
    with lease.transaction() as session:
        state = BotState.STOPPED if found else BotState.MISSING
        desired_state.record_applied(session, bot.id, DesiredState.STOPPED, state=state, detail=None, now=utcnow())


def _start(engine: docker.APIClient, lease: BotLease, bot: Bot) -> None:
    found = containers.inspect(engine, bot.container_id)
    if found is not None:
        lease.renew_or_raise()
        containers.start(engine, found["Id"])
        if bot.restart_policy is not None:
            lease.renew_or_raise()
            containers.set_restart_policy(engine, found["Id"], bot.restart_policy)
    # The next probe of the node checks the health of the bot and reads its new address.
    state, detail = (BotState.UNKNOWN, "Just started") if found else (BotState.MISSING, "The container is gone")
    with lease.transaction() as session:
        desired_state.record_applied(session, bot.id, DesiredState.RUNNING, state=state, detail=detail, now=utcnow())
