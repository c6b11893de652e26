"""Updates: one bot's part in a rollout, with the journal that lets any worker take over after a crash."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.bot import Bot
from portal.models.encrypted import EncryptedJSON
from portal.models.rollout import Rollout


class UpdateState(StrEnum):
    """Life of an update. `failed` means nothing was changed: the old container kept running, or runs again."""

    PENDING = "pending"
    RUNNING = "running"
    UPDATED = "updated"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    NEEDS_ATTENTION = "needs_attention"
    SKIPPED = "skipped"


class SkipReason(StrEnum):
    """Why a pending bot was left out."""

    STOPPED = "stopped"
    ALREADY_THERE = "already there"
    SUPERSEDED = "superseded"
    TAKEN_BY_HAND = "taken by hand"
    QUARANTINED = "quarantined"
    ABORTED = "aborted"
    NOT_ELIGIBLE = "no longer eligible"
    """Its organization left the automatic mode or is being deleted, or the bot was pinned or needs a person."""


class Step(StrEnum):
    """The journal: a step is written down before its first effect, so a takeover knows what may have happened."""

    CLAIM = "claim"
    PREFLIGHT = "preflight"
    PULL = "pull"
    CAPTURE = "capture"
    PRECREATE = "precreate"
    STOP = "stop"
    SNAPSHOT = "snapshot"
    SWAP = "swap"
    START = "start"
    HEALTH = "health"
    COMMIT = "commit"
    ROLLBACK = "rollback"


class Verdict(StrEnum):
    """Decided once, in one transaction, before anything irreversible follows from it."""

    HEALTHY = "healthy"
    FAILED = "failed"


_RUNNING = UpdateState.RUNNING


class BotUpdate(Base):
    """One bot's part in a rollout."""

    __tablename__ = "bot_updates"
    __table_args__ = (
        sa.UniqueConstraint("rollout_id", "bot_id"),
        sa.Index(
            "uq_bot_updates_running",
            "bot_id",
            unique=True,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        ),
    )
    TRANSITIONS: ClassVar = {
        UpdateState.PENDING: frozenset({UpdateState.RUNNING, UpdateState.SKIPPED}),
        # Back to pending: a dead worker or engine before the stop is nobody's failure.
        UpdateState.RUNNING: frozenset(
            {
                UpdateState.PENDING,
                UpdateState.UPDATED,
                UpdateState.ROLLED_BACK,
                UpdateState.FAILED,
                UpdateState.NEEDS_ATTENTION,
                UpdateState.SKIPPED,
            }
        ),
        UpdateState.UPDATED: frozenset(),
        UpdateState.ROLLED_BACK: frozenset(),
        UpdateState.FAILED: frozenset({UpdateState.PENDING}),
        # A person puts the bot right; what became of the update stays in the log as it was.
        UpdateState.NEEDS_ATTENTION: frozenset(),
        UpdateState.SKIPPED: frozenset({UpdateState.PENDING}),
    }

    LEAVES_TRACES: ClassVar = frozenset({UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED})
    """Final states after which archives, a tag or a container may be left on the engine."""

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    rollout_id: Mapped[str] = mapped_column(sa.ForeignKey("rollouts.id"))
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id"), index=True)
    wave: Mapped[int | None]
    """1 is the canary's wave; None until the wave it belongs to was cut."""
    state: Mapped[UpdateState] = mapped_column(choice(UpdateState), default=UpdateState.PENDING, index=True)
    skip_reason: Mapped[SkipReason | None] = mapped_column(choice(SkipReason))
    step: Mapped[Step | None] = mapped_column(choice(Step))
    verdict: Mapped[Verdict | None] = mapped_column(choice(Verdict))
    attempt: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    """A retry waits until then."""
    previous_digest: Mapped[str | None] = mapped_column(sa.String(71))
    old_container_id: Mapped[str | None] = mapped_column(sa.String(64))
    new_container_id: Mapped[str | None] = mapped_column(sa.String(64))
    saved_container: Mapped[Any] = mapped_column(EncryptedJSON, nullable=True)
    """Full description of the old container: from it, it could be created again."""
    journal: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Small facts a takeover needs: the old restart policy, the new container's StartedAt …"""
    error: Mapped[str | None] = mapped_column(sa.Text)
    transient: Mapped[bool] = mapped_column(default=False)
    """It failed for a reason that cannot be the release's fault (engine or registry unreachable, disk full
    before the stop …), so it may be tried again."""
    log_tail: Mapped[str | None] = mapped_column(sa.Text)
    """The last log lines of a new container that did not become healthy."""
    timings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`{step: [started, ended]}`, ISO 8601; the last entry is open while the step runs."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
    """When the bot stopped answering, for the downtime."""
    answering_at: Mapped[datetime | None]
    """When it answered again: the new version, or the old one after going back."""
    cleaned_at: Mapped[datetime | None]

    bot: Mapped[Bot] = relationship()
    rollout: Mapped[Rollout] = relationship(backref="updates")

    @staticmethod
    def left_out(reason: SkipReason, moment: datetime) -> dict[str, Any]:
        """What is written when a bot is skipped; the error of an earlier attempt is no longer how it ended."""
        return {"skip_reason": reason, "error": None, "transient": False, "ended_at": moment}

    @classmethod
    def is_unfinished(cls) -> sa.ColumnElement[bool]:
        """Return the condition for updates with work left on the engine: running, or ended but not cleaned up.

        Until then the bot's container may have the wrong restart policy, and the old container its volumes.
        """
        ended = cls.state.in_(cls.LEAVES_TRACES)
        return sa.or_(cls.state == UpdateState.RUNNING, sa.and_(ended, cls.cleaned_at.is_(None)))
