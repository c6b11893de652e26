"""Deletion of archives that were kept after their update. Used by `flotilla snapshots delete` and by purge."""

from __future__ import annotations

import docker

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine.client import open_engine
from daemon.engine.labels import INSTALL_LABEL
from daemon.snapshots.archives import SnapshotHelper
from portal.database import Database
from portal.models import Bot, Snapshot
from portal.services import fleet_settings
from portal.services.bots import snapshots
from portal.settings import Settings


def delete_snapshot(database: Database, settings: Settings, snapshot_id: str) -> Snapshot:
    """Delete an archive that is no longer needed and return its row.

    Raises:
        NotFoundError: there is no such archive.
        ConflictError: the archive is still needed, or another worker holds the bot's lease.
        EngineUnreachable: the node does not answer.
        HelperFailed: the archive could not be deleted.
    """
    with database.reading() as session:
        snapshot, bot = snapshots.get_with_bot(session, snapshot_id)
        node = bot.node
    with BotLease(database, bot.id) as lease:
        with lease.transaction() as session:
            snapshots.require_unneeded(session, *snapshots.get_with_bot(session, snapshot_id))
        with open_engine(node, CALL_SECONDS) as engine:
            delete_archive(engine, settings, lease, snapshot, bot)
    return snapshot


def delete_archive(
    engine: docker.APIClient, settings: Settings, lease: BotLease, snapshot: Snapshot, bot: Bot
) -> None:
    """Delete an archive from its node's disk and record it. A missing archive is only recorded.

    Args:
        engine: the node's engine.
        settings: settings of this installation, for the helper image.
        lease: lease on the bot.
        snapshot: the archive.
        bot: the bot.

    Raises:
        HelperFailed: the archive could not be deleted.
        LeaseLost: another worker holds the bot's lease.
    """
    with lease.transaction() as session:
        labels = {INSTALL_LABEL: fleet_settings.get_settings(session).install_id}
    helper = SnapshotHelper(
        engine, settings.snapshot_image, labels, snapshot.update_id, lease.renew_or_raise, fence=lease.fence
    )
    helper.require_image()
    helper.delete([snapshot.archive])
    with lease.transaction() as session:
        snapshots.mark_deleted(session, session.merge(snapshot), bot)
