"""Snapshot rows: record, list, find, mark deleted. Used by updates, purge and `flotilla snapshots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, EventTag, Snapshot, SnapshotState, UpdateState, move, update_where
from portal.services import events
from portal.services.errors import ConflictError, NotFoundError


def list_for_update(session: Session, update_id: str) -> list[Snapshot]:
    """Return the archives of an update in the order in which they were taken."""
    return list(
        session.scalars(
            sa.select(Snapshot)
            .where(Snapshot.update_id == update_id, Snapshot.state != SnapshotState.DELETED)
            .order_by(Snapshot.created_at, Snapshot.archive)
        )
    )


def record_start(session: Session, update_id: str, node_id: str, archives: Mapping[str, str]) -> None:
    """Record that archives of volumes are about to be written.

    The rows of an earlier attempt of the same update are deleted; its archives will be replaced.

    Args:
        session: a fenced transaction.
        update_id: the update.
        node_id: node of the volumes.
        archives: paths of the archives by volume.
    """
    session.execute(sa.delete(Snapshot).where(Snapshot.update_id == update_id, Snapshot.volume.in_(archives)))
    session.add_all(
        Snapshot(update_id=update_id, node_id=node_id, volume=volume, archive=path)
        for volume, path in archives.items()
    )
    session.flush()


def mark_verified(session: Session, update_id: str, volume: str, **facts: Any) -> None:
    """Record that the archive of a volume is complete.

    Args:
        session: a fenced transaction.
        update_id: the update.
        volume: the volume.
        facts: size, entries, checksum and helper of the archive, by column.
    """
    being_taken = (Snapshot.update_id == update_id, Snapshot.volume == volume, Snapshot.state == SnapshotState.TAKING)
    update_where(session, Snapshot, *being_taken, state=SnapshotState.VERIFIED, **facts)


def mark_all_deleted(session: Session, update_id: str) -> None:
    """Record that all archives of an update were deleted from the node's disk."""
    kept = Snapshot.state != SnapshotState.DELETED
    update_where(session, Snapshot, Snapshot.update_id == update_id, kept, state=SnapshotState.DELETED)


def list_kept(session: Session, bot_id: str | None = None) -> Sequence[tuple[Snapshot, Bot]]:
    """Return all archives that were not deleted, or those of one bot, newest first."""
    query = _select_kept().order_by(Snapshot.created_at.desc(), Snapshot.archive)
    found = session.execute(query.where(Bot.id == bot_id) if bot_id else query).all()
    return [(snapshot, bot) for snapshot, bot in found]


def get_with_bot(session: Session, snapshot_id: str) -> tuple[Snapshot, Bot]:
    """Return an archive that was not deleted, with its bot.

    Raises:
        NotFoundError: there is no such archive, or it was deleted.
    """
    found = session.execute(_select_kept().where(Snapshot.id == snapshot_id)).one_or_none()
    if found is None:
        raise NotFoundError(f"There is no snapshot {snapshot_id!r}. `flotilla snapshots list` shows all snapshots.")
    snapshot, bot = found
    return snapshot, bot


def require_unneeded(session: Session, snapshot: Snapshot, bot: Bot) -> None:
    """Check that an archive is no longer needed.

    Raises:
        ConflictError: an update may still need the archive, or the bot needs attention.
    """
    if bot.needs_attention:
        raise ConflictError(
            f"{bot.name} needs attention, and this archive may be the only copy of its data."
            " Repair the bot, run `flotilla bots clear`, then delete the archive."
        )
    if session.get_one(BotUpdate, snapshot.update_id).state is UpdateState.RUNNING:
        raise ConflictError(f"An update of {bot.name} is running and may need this archive.")


def mark_deleted(session: Session, snapshot: Snapshot, bot: Bot) -> None:
    """Record that an archive was deleted from its node's disk."""
    move(session, snapshot, snapshot.state, SnapshotState.DELETED)
    data = {"volume": snapshot.volume, "archive": snapshot.archive}
    events.record(session, EventTag.SNAPSHOT_DELETED, org_id=bot.org_id, bot_id=bot.id, data=data)


def _select_kept() -> sa.Select[Snapshot, Bot]:
    return (
        sa.select(Snapshot, Bot)
        .join(BotUpdate, BotUpdate.id == Snapshot.update_id)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(Snapshot.state != SnapshotState.DELETED)
    )
