"""The deletion of a company in a bot that is about to be removed. Used by the purge of bots."""

from __future__ import annotations

import logging

from daemon.provision.client import ProvisionClient
from daemon.provision.failures import CallFailed
from portal.models import Bot
from portal.services.syncs.endpoints import list_secrets

logger = logging.getLogger(__name__)

_CALL_SECONDS = 5.0


def try_to_delete_company(bot: Bot, address: str) -> None:
    """Delete the company of a bot, so that the bot can tell others, such as its model gateway.

    A failure changes nothing: the container and its data are removed anyway.

    Args:
        bot: the bot.
        address: `host:port` of its running container.
    """
    secrets = list_secrets(bot)
    if bot.company_id is None or not secrets:
        return
    try:
        ProvisionClient(address, secrets, _CALL_SECONDS).delete_company(bot.company_id)
    except CallFailed as error:
        logger.info("the company of bot %s was not deleted before its removal: %s", bot.id, error)
