"""The deletion of a company in a bot that is purged with its data. Used by the purge of bots.

The bot has been stopped during its grace period. It runs once more for this call, so that it can end what it has
begun elsewhere, such as the use of its model gateway.
"""

from __future__ import annotations

import logging

import docker
from docker.errors import APIError

from daemon.bot_lease import BotLease
from daemon.engine import containers, health_probe
from daemon.engine.health_probe import HealthCheck
from daemon.errors import OperationFailed
from daemon.provision.client import ProvisionClient
from daemon.provision.failures import CallFailed
from portal.models import Bot, Node
from portal.services.syncs.endpoints import list_secrets

logger = logging.getLogger(__name__)

_START_SECONDS = 30.0
_PROBE_INTERVAL_SECONDS = 1.0
_CALL_SECONDS = 10.0


def try_to_delete_company(engine: docker.APIClient, lease: BotLease, bot: Bot, node: Node) -> None:
    """Start the container of a bot and let the bot delete its company. The container may run afterwards.

    A failure is logged and changes nothing else: the container and its data are removed anyway.

    Raises:
        LeaseLost: another worker holds the bot.
    """
    secrets = list_secrets(bot)
    found = containers.inspect(engine, bot.container_id)
    if found is None or bot.company_id is None or not secrets:
        return
    try:
        address = _start(engine, lease, bot, node)
        lease.renew_or_raise(_CALL_SECONDS)
        ProvisionClient(address, secrets, _CALL_SECONDS).delete_company(bot.company_id)
    except (APIError, CallFailed, OperationFailed) as error:
        logger.warning("the company of bot %s was not deleted before its removal: %s", bot.id, error)


def _start(engine: docker.APIClient, lease: BotLease, bot: Bot, node: Node) -> str:
    """Start the container, wait until it is healthy, and return its address."""
    container_id = str(bot.container_id)
    lease.renew_or_raise()
    containers.start(engine, container_id)
    result = health_probe.wait_until_healthy(
        engine,
        container_id,
        node,
        HealthCheck.of(bot),
        timeout=_START_SECONDS,
        interval=_PROBE_INTERVAL_SECONDS,
    )
    if result.address is None or not result.healthy:
        raise OperationFailed(f"not healthy after its start: {result.reason}")
    return result.address
