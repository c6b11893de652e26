"""The rows of the archives an update takes of a bot's volumes."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Snapshot, SnapshotState, move


def of_update(session: Session, update_id: str) -> list[Snapshot]:
    """The update's archives, in the order they were taken."""
    return list(
        session.scalars(
            sa.select(Snapshot)
            .where(Snapshot.update_id == update_id, Snapshot.state != SnapshotState.DELETED)
            .order_by(Snapshot.created_at, Snapshot.archive)
        )
    )


def begin(session: Session, update: BotUpdate, volume: str, archive: str) -> str:
    """Write down that an archive of the volume is about to be written, and return the id of its row.

    What an earlier attempt of the same update wrote about this volume is forgotten: that archive was deleted.
    """
    session.execute(sa.delete(Snapshot).where(Snapshot.update_id == update.id, Snapshot.volume == volume))
    snapshot = Snapshot(update_id=update.id, node_id=update.bot.node_id, volume=volume, archive=archive)
    session.add(snapshot)
    session.flush()
    return snapshot.id


def forget(session: Session, update_id: str) -> None:
    """The update's archives were deleted from the node's disk."""
    for snapshot in of_update(session, update_id):
        move(session, snapshot, snapshot.state, SnapshotState.DELETED)
