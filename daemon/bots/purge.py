"""Removing a bot for good, with its data: the last step of an organization's deletion."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import docker
from docker.errors import APIError, NotFound

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine import containers
from daemon.engine.client import connect
from daemon.engine.recreate.mounts import writable_volumes
from daemon.snapshots import deletion
from portal.database import Database
from portal.models import Bot, utcnow
from portal.services.bots import purging, snapshots
from portal.services.bots.leases import BotBusy
from portal.settings import Settings

logger = logging.getLogger(__name__)


def purge(database: Database, settings: Settings, bot_id: str) -> None:
    """Remove a bot's container, archives, and the volumes that it could write to unless another container uses them.

    The container is addressed by its id and tells itself which volumes are its own; they are written down before
    it goes, so a worker that dies leaves nothing behind that the next one would not find.

    Raises:
        EngineUnreachable: the node does not answer; what was not removed yet will be asked for again.
        HelperFailed: an archive could not be deleted; the same holds.
    """
    try:
        with BotLease(database, bot_id) as lease:
            _purge(database, settings, lease, bot_id)
    except BotBusy:
        logger.info("bot %s is being worked on, it is removed later", bot_id)


def _purge(database: Database, settings: Settings, lease: BotLease, bot_id: str) -> None:
    with database.reading() as session:
        if not purging.is_purgeable(session, bot_id, utcnow()):
            return
        bot = session.get_one(Bot, bot_id)
        node = bot.node
        left = [snapshot for snapshot, _ in snapshots.list_kept(session, bot_id)]
    engine = connect(node)
    engine.timeout = CALL_SECONDS
    try:
        volumes = _remove_container(engine, lease, bot)
        kept = [name for name in volumes if not _remove_volume(engine, lease, name)]
        for snapshot in left:
            deletion.remove_archive(engine, settings, lease, snapshot, bot)
    finally:
        engine.close()
    with lease.transaction() as session:
        purging.mark_purged(session, bot_id, kept)


def _remove_container(engine: docker.APIClient, lease: BotLease, bot: Bot) -> Iterable[str]:
    found = containers.inspect(engine, bot.container_id)
    if found is None:
        return bot.volumes_to_remove or []
    # Somebody may have started it by hand.
    containers.stop(engine, found["Id"], lease.renew_or_raise)
    volumes = [volume.name for volume in writable_volumes(found)]
    with lease.transaction() as session:
        purging.record_volumes(session, bot.id, volumes)
    lease.renew_or_raise()
    containers.remove(engine, found["Id"], with_fresh_volumes=False)
    return volumes


def _remove_volume(engine: docker.APIClient, lease: BotLease, name: str) -> bool:
    """Whether the volume is gone; the engine itself refuses while another container uses it."""
    lease.renew_or_raise()
    try:
        engine.remove_volume(name)
    except NotFound:
        return True
    except APIError as error:
        if error.status_code != 409:
            raise
        logger.warning("volume %s is used by another container and stays", name)
        return False
    return True
