"""Table of the nightly syncs of the bot's fork with its upstream. Used by `portal.services.fork_syncs`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.outside_text import OutsideText


class ForkSyncState(StrEnum):
    """States of a sync. `WAITING`: people work on the pull request. `REFUSED`: the repository did not allow it."""

    RUNNING = "running"
    UP_TO_DATE = "up_to_date"
    SYNCED = "synced"
    WAITING = "waiting"
    CONFLICT = "conflict"
    REFUSED = "refused"


class ForkSync(Base):
    """One scheduled sync. The unique moment lets one of several workers run it."""

    __tablename__ = "fork_syncs"
    TRANSITIONS: ClassVar = {
        # A worker that died is replaced by another one.
        ForkSyncState.RUNNING: frozenset(ForkSyncState),
        **dict.fromkeys(set(ForkSyncState) - {ForkSyncState.RUNNING}, frozenset[ForkSyncState]()),
    }

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    scheduled_for: Mapped[datetime] = mapped_column(unique=True)
    state: Mapped[ForkSyncState] = mapped_column(choice(ForkSyncState), default=ForkSyncState.RUNNING)
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_until: Mapped[datetime]
    """Moment from which another worker may run an unfinished sync again."""
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(OutsideText(4000))
    """Why the sync was refused."""
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The report of `daemon.upstream`, with long lists shortened."""
