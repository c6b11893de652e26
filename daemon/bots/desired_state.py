"""Bringing about what people want of a bot: that it runs, or that it is stopped and stays so."""

from __future__ import annotations

import logging

import docker

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine import containers
from daemon.engine.client import connect
from daemon.engine.containers import NO_RESTART
from portal.database import Database
from portal.models import Bot, BotState, DesiredState, utcnow
from portal.services.bots import desired_state
from portal.services.bots.leases import BotBusy

logger = logging.getLogger(__name__)


def apply_desired_state(database: Database, bot_id: str) -> None:
    """Stop or start a bot's container if that is what is wanted and was not done yet.

    Each effect is made under the bot's lease and may be repeated, so a worker that dies leaves the matter to the
    next one. While somebody else is at work on the bot nothing happens; the scheduler asks again.

    Raises:
        EngineUnreachable: the node does not answer; nothing is known to have happened.
    """
    try:
        with BotLease(database, bot_id) as lease:
            _follow(database, lease, bot_id)
    except BotBusy:
        logger.info("bot %s is being worked on, its wish comes later", bot_id)


def _follow(database: Database, lease: BotLease, bot_id: str) -> None:
    with database.reading() as session:
        wanted = desired_state.pending_change(session, bot_id)
        bot = session.get_one(Bot, bot_id)
        node = bot.node
    if wanted is None:
        return
    engine = connect(node)
    engine.timeout = CALL_SECONDS
    try:
        if wanted is DesiredState.STOPPED:
            _stop(engine, lease, bot)
        else:
            _start(engine, lease, bot)
    finally:
        engine.close()


def _stop(engine: docker.APIClient, lease: BotLease, bot: Bot) -> None:
    found = containers.inspect(engine, bot.container_id)
    if found is not None:
        with lease.transaction() as session:
            desired_state.save_restart_policy(session, bot.id, found["HostConfig"].get("RestartPolicy") or NO_RESTART)
        lease.renew_or_raise()
        # Or the engine would revive it when it is itself started again.
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
    # Whether it is well is for the next look at the node to say, which also reads its new address.
    state, detail = (BotState.UNKNOWN, "it was started") if found else (BotState.MISSING, "its container is gone")
    with lease.transaction() as session:
        desired_state.record_applied(session, bot.id, DesiredState.RUNNING, state=state, detail=detail, now=utcnow())
