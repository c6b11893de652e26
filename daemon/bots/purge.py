"""The job that removes a bot, with its data or without, at the end of a grace period.

`portal.services.bots.purging` decides when: after the grace period, if the bot is stopped and no update is open.
What a creation left on the engine has a fixed name and labels.
"""

from __future__ import annotations

import logging
from datetime import datetime

import docker
from docker.errors import APIError

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.bots import company_deletion
from daemon.engine import containers, volumes
from daemon.engine.client import open_engine
from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, KEEP_REPOSITORY
from daemon.engine.recreate.mounts import writable_volumes
from daemon.snapshots import deletion
from portal.database import Database
from portal.models import Bot
from portal.services import fleet_settings
from portal.services.bots import purging, snapshots
from portal.services.bots.leases import BotBusy
from portal.settings import Settings

logger = logging.getLogger(__name__)


def purge(database: Database, settings: Settings, bot_id: str, now: datetime) -> None:
    """Remove a bot's containers. Unless its data is kept, also remove its archives and its writable volumes.

    A volume that another container uses stays.

    The volumes are read from the containers and recorded before these are removed, so that another worker can finish
    an interrupted purge.

    Raises:
        EngineUnreachable: the node does not answer; the scheduler enqueues the job again.
        HelperFailed: an archive could not be deleted; the scheduler enqueues the job again.
    """
    try:
        with BotLease(database, bot_id) as lease:
            _purge(database, settings, lease, bot_id, now)
    except BotBusy:
        logger.info("bot %s is busy; it is purged later", bot_id)


def _purge(database: Database, settings: Settings, lease: BotLease, bot_id: str, now: datetime) -> None:
    with database.reading() as session:
        if not purging.is_purgeable(session, bot_id, now):
            return
        bot = session.get_one(Bot, bot_id)
        node = bot.node
        keeps_data = purging.keeps_data(bot)
        archives = [] if keeps_data else [snapshot for snapshot, _ in snapshots.list_kept(session, bot_id)]
        install = fleet_settings.get_settings(session).install_id
    with open_engine(node, CALL_SECONDS) as engine:
        # With incomplete data the bot must not run again.
        if not keeps_data and bot.needs_attention is None:
            company_deletion.try_to_delete_company(engine, lease, bot, node)
        names = _remove_containers(engine, lease, bot, install)
        _remove_keep_tag(engine, lease, bot)
        kept = names if keeps_data else _remove_volumes(engine, lease, names)
        for snapshot in archives:
            deletion.delete_archive(engine, settings, lease, snapshot, bot)
    with lease.transaction() as session:
        purging.mark_purged(session, bot_id, kept)


def _remove_containers(engine: docker.APIClient, lease: BotLease, bot: Bot, install: str) -> list[str]:
    """Remove the containers of a bot and return the names of its writable volumes.

    Besides the container of the bot, these are what an interrupted creation or a failed rollback left.
    """
    ids = {bot.container_id, *containers.list_for_bot(engine, install, bot.id)}
    found = [container for container_id in ids if (container := containers.inspect(engine, container_id))]
    mounted = {volume.name for container in found for volume in writable_volumes(container)}
    labels = [f"{INSTALL_LABEL}={install}", f"{BOT_LABEL}={bot.id}"]
    created = {volume["Name"] for volume in engine.volumes(filters={"label": labels})["Volumes"] or []}
    names = sorted({*mounted, *created, *(bot.volumes_to_remove or [])})
    with lease.transaction() as session:
        purging.record_volumes(session, bot.id, names)
    for container in found:
        # An operator may have started it by hand.
        containers.stop(engine, container["Id"], lease.renew_or_raise)
        lease.renew_or_raise()
        containers.remove(engine, container["Id"], with_anonymous_volumes=False)
    return names


def _remove_keep_tag(engine: docker.APIClient, lease: BotLease, bot: Bot) -> None:
    """Remove the tag that protects an image from pruning, which a failed rollback leaves."""
    lease.renew_or_raise()
    try:
        engine.remove_image(f"{KEEP_REPOSITORY}:{bot.id}", noprune=True)
    except APIError as error:
        # 404: there is no such tag. 409: it is the only name of an image that a container still uses.
        if error.status_code not in {404, 409}:
            raise


def _remove_volumes(engine: docker.APIClient, lease: BotLease, names: list[str]) -> list[str]:
    """Remove volumes, and return the names of those that another container uses and that stay."""
    kept = []
    for name in names:
        lease.renew_or_raise()
        if not volumes.remove(engine, name):
            kept.append(name)
    return kept
