"""The rows of the archives an update takes of a bot's volumes."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, EventTag, Snapshot, SnapshotState, UpdateState, move
from portal.services import events
from portal.services.errors import ConflictError, NotFoundError


def list_for_update(session: Session, update_id: str) -> list[Snapshot]:
    """The update's archives, in the order they were taken."""
    return list(
        session.scalars(
            sa.select(Snapshot)
            .where(Snapshot.update_id == update_id, Snapshot.state != SnapshotState.DELETED)
            .order_by(Snapshot.created_at, Snapshot.archive)
        )
    )


def record_begin(session: Session, update: BotUpdate, volume: str, archive: str) -> str:
    """Write down that an archive of the volume is about to be written, and return the id of its row.

    What an earlier attempt of the same update wrote about this volume is forgotten: that archive was deleted.
    """
    session.execute(sa.delete(Snapshot).where(Snapshot.update_id == update.id, Snapshot.volume == volume))
    snapshot = Snapshot(update_id=update.id, node_id=update.bot.node_id, volume=volume, archive=archive)
    session.add(snapshot)
    session.flush()
    return snapshot.id


def mark_all_deleted(session: Session, update_id: str) -> None:
    """The update's archives were deleted from the node's disk."""
    for snapshot in list_for_update(session, update_id):
        move(session, snapshot, snapshot.state, SnapshotState.DELETED)


def list_kept(session: Session, bot_id: str | None = None) -> Sequence[tuple[Snapshot, Bot]]:
    """Every archive that is still on a node's disk, or those of one bot; the newest first."""
    query = (
        sa.select(Snapshot, Bot)
        .join(BotUpdate, BotUpdate.id == Snapshot.update_id)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(Snapshot.state != SnapshotState.DELETED)
        .order_by(Snapshot.created_at.desc(), Snapshot.archive)
    )
    found = session.execute(query.where(Bot.id == bot_id) if bot_id else query).all()
    return [(snapshot, bot) for snapshot, bot in found]


def get_with_bot(session: Session, snapshot_id: str) -> tuple[Snapshot, Bot]:
    """An archive that is still there, and whose it is.

    Raises:
        NotFoundError: there is none with this id, or it was deleted.
    """
    found = [(snapshot, bot) for snapshot, bot in list_kept(session) if snapshot.id == snapshot_id]
    if not found:
        raise NotFoundError(f"There is no snapshot {snapshot_id!r}; `flotilla snapshots list` shows all.")
    return found[0]


def require_unneeded(session: Session, snapshot: Snapshot, bot: Bot) -> None:
    """Make sure that nothing and nobody needs an archive any more.

    Raises:
        ConflictError: an update may still need it, or the bot needs a person, for whom it may be all there is.
    """
    if bot.needs_attention:
        raise ConflictError(
            f"{bot.name} needs a person first, and this archive may be all there is of its data."
            " Put the bot right, say so with `flotilla bots clear`, then delete the archive."
        )
    if session.get_one(BotUpdate, snapshot.update_id).state is UpdateState.RUNNING:
        raise ConflictError(f"An update of {bot.name} is under way and may need this archive.")


def mark_deleted(session: Session, snapshot: Snapshot, bot: Bot) -> None:
    """Write down that an archive was deleted from its node's disk."""
    move(session, snapshot, snapshot.state, SnapshotState.DELETED)
    data = {"volume": snapshot.volume, "archive": snapshot.archive}
    events.record(session, EventTag.SNAPSHOT_DELETED, org_id=bot.org_id, bot_id=bot.id, data=data)
