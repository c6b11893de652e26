"""Deleting archives that outlived their update: a person has put the bot right, or it goes for good."""

from __future__ import annotations

from contextlib import closing

import docker

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine.client import connect
from daemon.engine.labels import INSTALL_LABEL
from daemon.snapshots.archives import SnapshotHelper
from portal.database import Database
from portal.models import Bot, Snapshot
from portal.services import fleet_settings
from portal.services.bots import snapshots
from portal.settings import Settings


def delete_snapshot(database: Database, settings: Settings, snapshot_id: str) -> Snapshot:
    """Delete an archive that nobody needs any more, and return its row.

    Raises:
        NotFoundError: there is no such archive any more.
        ConflictError: somebody needs it, or is at work on the bot.
        EngineUnreachable: the node does not answer.
        HelperFailed: it could not be deleted.
    """
    with database.reading() as session:
        snapshot, bot = snapshots.get_with_bot(session, snapshot_id)
        node = bot.node
    with BotLease(database, bot.id) as lease:
        with lease.transaction() as session:
            snapshots.require_unneeded(session, *snapshots.get_with_bot(session, snapshot_id))
        with closing(connect(node)) as engine:
            engine.timeout = CALL_SECONDS
            remove_archive(engine, settings, lease, snapshot, bot)
    return snapshot


def remove_archive(
    engine: docker.APIClient, settings: Settings, lease: BotLease, snapshot: Snapshot, bot: Bot
) -> None:
    """Remove one archive of the bot that is held from its node's disk; one that is gone already is fine.

    Raises:
        HelperFailed: it could not be deleted.
        LeaseLost: somebody else holds the bot.
    """
    with lease.transaction() as session:
        labels = {INSTALL_LABEL: fleet_settings.get_settings(session).install_id}
    helper = SnapshotHelper(engine, settings.snapshot_image, labels, snapshot.update_id, lease.renew_or_raise)
    helper.require_image()
    helper.delete([snapshot.archive])
    with lease.transaction() as session:
        snapshots.mark_deleted(session, session.merge(snapshot), bot)
