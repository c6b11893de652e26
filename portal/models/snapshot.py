"""Snapshots: verified archives of one volume each, taken during an update. Used by the update engine."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow


class SnapshotState(StrEnum):
    """State of a snapshot. A volume is emptied only when its snapshot is `verified`."""

    TAKING = "taking"
    VERIFIED = "verified"
    RESTORED = "restored"
    DELETED = "deleted"


class Snapshot(Base):
    """The archive of one volume."""

    __tablename__ = "snapshots"
    __table_args__ = (sa.UniqueConstraint("update_id", "volume"),)
    TRANSITIONS: ClassVar = {
        SnapshotState.TAKING: frozenset({SnapshotState.VERIFIED, SnapshotState.DELETED}),
        SnapshotState.VERIFIED: frozenset({SnapshotState.RESTORED, SnapshotState.DELETED}),
        SnapshotState.RESTORED: frozenset({SnapshotState.DELETED}),
        SnapshotState.DELETED: frozenset(),
    }

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    update_id: Mapped[str] = mapped_column(sa.ForeignKey("bot_updates.id"), index=True)
    node_id: Mapped[str] = mapped_column(sa.ForeignKey("nodes.id"))
    volume: Mapped[str] = mapped_column(sa.String(255))
    archive: Mapped[str] = mapped_column(sa.String(500))
    """Path on the disk of the node: a folder, or one file if an earlier version of Flotilla wrote it."""
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    entries: Mapped[int | None] = mapped_column(sa.BigInteger)
    checksum: Mapped[str | None] = mapped_column(sa.String(100))
    """Algorithm and digest in hex, such as `blake2b-256:…`, once the archive is verified."""
    helper_digest: Mapped[str | None] = mapped_column(sa.String(71))
    """The helper image that wrote the archive; the same version of tar has to read it."""
    state: Mapped[SnapshotState] = mapped_column(choice(SnapshotState), default=SnapshotState.TAKING)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
