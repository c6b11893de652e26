"""Updates: one bot in a rollout, with the journal from which any worker can take over. Used by the update engine."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, literal, new_id, partial_index, utcnow
from portal.models.bot import Bot
from portal.models.encrypted import EncryptedJSON
from portal.models.outside_text import OutsideText
from portal.models.rollout import Rollout


class UpdateState(StrEnum):
    """State of an update.

    `FAILED`: the old container still runs or runs again. Nothing was changed, or everything was restored because the
    engine was in trouble after the start of the new one.
    """

    PENDING = "pending"
    RUNNING = "running"
    UPDATED = "updated"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    NEEDS_ATTENTION = "needs_attention"
    SKIPPED = "skipped"


class SkipReason(StrEnum):
    """Why a pending update was skipped."""

    STOPPED = "stopped"
    ALREADY_THERE = "already there"
    SUPERSEDED = "superseded"
    TAKEN_BY_HAND = "taken by hand"
    QUARANTINED = "quarantined"
    ABORTED = "aborted"
    DECLINED = "skipped by its organization"
    NOT_ELIGIBLE = "no longer eligible"
    """The organization left automatic mode or is being deleted, or the bot was pinned or needs attention."""


class Step(StrEnum):
    """Step of an update. A step is recorded before its first effect, so that a takeover knows what may have begun."""

    CLAIM = "claim"
    PREFLIGHT = "preflight"
    PULL = "pull"
    CAPTURE = "capture"
    PRECREATE = "precreate"
    BASE = "base"
    DRAIN = "drain"
    STOP = "stop"
    SNAPSHOT = "snapshot"
    SWAP = "swap"
    START = "start"
    HEALTH = "health"
    COMMIT = "commit"
    ROLLBACK = "rollback"


class Verdict(StrEnum):
    """Verdict on the new container. It is recorded in one transaction, before anything irreversible follows."""

    HEALTHY = "healthy"
    FAILED = "failed"


# `NOT IN`, because with `IN` SQLite may choose the index on the state instead, and read the history.
_UNFINISHED = "cleaned_at IS NULL AND state NOT IN ('pending', 'skipped', 'needs_attention')"
_STOPPED = "skip_reason = 'stopped'"


class BotUpdate(Base):
    """The update of one bot in a rollout."""

    __tablename__ = "bot_updates"
    __table_args__ = (
        sa.UniqueConstraint("rollout_id", "bot_id"),
        # Almost all rows are ended updates in the same state, so an index on `state` alone would read the history.
        # The partial indexes contain only the few rows with work left. They serve with and without statistics.
        sa.Index(None, "bot_id", "state", "ended_at"),
        sa.Index(None, "state", "ended_at"),
        # Ends a search for the latest update of a bot at its first row.
        sa.Index(None, "bot_id", "created_at", "id"),
        partial_index("ix_bot_updates_open", "state", "ended_at IS NULL"),
        partial_index("ix_bot_updates_unfinished", "bot_id", _UNFINISHED),
        partial_index("ix_bot_updates_stopped", "rollout_id", _STOPPED),
        partial_index("ix_bot_updates_described", "cleaned_at", "saved_container IS NOT NULL"),
        # Contains everything that a tick counts, so that the tick does not read the rows.
        sa.Index("ix_bot_updates_rollout", "rollout_id", "state", "wave", "ended_at", "not_before", "bot_id", "id"),
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
        # Pending again: a dead worker or engine before the stop is not a failure of the update.
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
        # An operator lets a worker continue the rollback. When the operator repairs the bot, the outcome stays.
        UpdateState.NEEDS_ATTENTION: frozenset({UpdateState.RUNNING}),
        UpdateState.SKIPPED: frozenset({UpdateState.PENDING}),
    }

    LEAVES_TRACES: ClassVar = frozenset({UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED})
    """Final states that may leave archives, a tag or a container on the engine."""

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    rollout_id: Mapped[str] = mapped_column(sa.ForeignKey("rollouts.id"))
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id"))
    wave: Mapped[int | None]
    """Number of the wave, 1 for the first; None until a wave takes the bot."""
    state: Mapped[UpdateState] = mapped_column(choice(UpdateState), default=UpdateState.PENDING)
    skip_reason: Mapped[SkipReason | None] = mapped_column(choice(SkipReason))
    step: Mapped[Step | None] = mapped_column(choice(Step))
    verdict: Mapped[Verdict | None] = mapped_column(choice(Verdict))
    attempt: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    """Earliest moment of a retry."""
    previous_digest: Mapped[str | None] = mapped_column(sa.String(71))
    old_container_id: Mapped[str | None] = mapped_column(sa.String(64))
    new_container_id: Mapped[str | None] = mapped_column(sa.String(64))
    saved_container: Mapped[Any] = mapped_column(EncryptedJSON, nullable=True)
    """Full description of the old container, from which it can be created again. Old updates have none."""
    journal: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Small facts that a takeover needs, such as the old restart policy or `StartedAt` of the new container."""
    error: Mapped[str | None] = mapped_column(OutsideText(4000))
    transient: Mapped[bool] = mapped_column(default=False)
    """The release cannot be the cause of the failure (engine or registry unreachable, disk full before the stop),
    so the update may be retried."""
    log_tail: Mapped[str | None] = mapped_column(OutsideText(10_000))
    """Last log lines of a new container that did not become healthy."""
    timings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`{step: [started, ended]}` in ISO 8601; a running step has no end."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]
    """When the bot was stopped: start of the downtime."""
    answering_at: Mapped[datetime | None]
    """When the bot answered again, on the new release or after a rollback: end of the downtime."""
    cleaned_at: Mapped[datetime | None]

    bot: Mapped[Bot] = relationship()
    rollout: Mapped[Rollout] = relationship(backref="updates")

    @staticmethod
    def skip_values(reason: SkipReason, now: datetime) -> dict[str, Any]:
        """Return the column values of a skipped update. They clear the error of an earlier attempt."""
        return {"skip_reason": reason, "error": None, "transient": False, "ended_at": now}

    @classmethod
    def is_open(cls) -> sa.ColumnElement[bool]:
        """Return the condition for pending and running updates. Only these have no end."""
        return sa.and_(cls.ended_at.is_(None), cls.state.in_((UpdateState.PENDING, UpdateState.RUNNING)))

    @classmethod
    def is_running(cls) -> sa.ColumnElement[bool]:
        """Return the condition for running updates."""
        return sa.and_(cls.ended_at.is_(None), cls.state == UpdateState.RUNNING)

    @classmethod
    def is_unfinished(cls) -> sa.ColumnElement[bool]:
        """Return the condition for updates with work left on the engine: running, or ended but not cleaned up.

        Before the cleanup, the bot's container may have the wrong restart policy, and the old container may still
        hold its volumes.
        """
        # A running update is never cleaned.
        others = (UpdateState.PENDING, UpdateState.SKIPPED, UpdateState.NEEDS_ATTENTION)
        return sa.and_(cls.cleaned_at.is_(None), cls.state.not_in([literal(state) for state in others]))

    @classmethod
    def is_skipped_while_stopped(cls) -> sa.ColumnElement[bool]:
        """Return the condition for updates that were skipped because the bot was stopped."""
        return cls.skip_reason == literal(SkipReason.STOPPED)
