"""Rollouts: the update of a set of bots to one release, by a strategy. Used by rollout services and pages."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.outside_text import OutsideText
from portal.models.release import Release
from portal.models.user import User
from portal.rules.strategies import StrategyName


class Trigger(StrEnum):
    """Who started a rollout: Flotilla, an operator, or a member of the organization."""

    AUTO = "auto"
    OPERATOR = "operator"
    TENANT = "tenant"


class Audience(StrEnum):
    """Which bots a rollout takes: those of organizations in automatic mode, all outdated bots, or named bots."""

    AUTOMATIC = "automatic"
    ALL = "all"
    NAMED = "named"


class RolloutState(StrEnum):
    """State of a rollout."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


_ENDS = frozenset({RolloutState.ABORTED, RolloutState.SUPERSEDED})


class Rollout(Base):
    """One rollout. Its `bot_updates` hold the outcome of each bot."""

    __tablename__ = "rollouts"
    __table_args__ = (
        sa.Index(
            "uq_rollouts_open_automatic",
            "release_id",
            unique=True,
            sqlite_where=sa.text("trigger = 'auto' AND state IN ('scheduled', 'running', 'paused')"),
            postgresql_where=sa.text("trigger = 'auto' AND state IN ('scheduled', 'running', 'paused')"),
        ),
    )
    TRANSITIONS: ClassVar = {
        RolloutState.SCHEDULED: frozenset({RolloutState.RUNNING, *_ENDS}),
        RolloutState.RUNNING: frozenset({RolloutState.PAUSED, RolloutState.COMPLETED, *_ENDS}),
        RolloutState.PAUSED: frozenset({RolloutState.RUNNING, *_ENDS}),
        RolloutState.COMPLETED: frozenset(),
        RolloutState.ABORTED: frozenset(),
        RolloutState.SUPERSEDED: frozenset(),
    }
    OPEN: ClassVar = frozenset({RolloutState.SCHEDULED, RolloutState.RUNNING, RolloutState.PAUSED})

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    release_id: Mapped[str] = mapped_column(sa.ForeignKey("releases.id"), index=True)
    strategy: Mapped[StrategyName] = mapped_column(choice(StrategyName))
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[RolloutState] = mapped_column(choice(RolloutState), default=RolloutState.SCHEDULED, index=True)
    reason: Mapped[str | None] = mapped_column(OutsideText(4000))
    """Why the rollout was paused, aborted or superseded, for operators."""
    trigger: Mapped[Trigger] = mapped_column(choice(Trigger))
    audience: Mapped[Audience] = mapped_column(choice(Audience))
    ignore_windows: Mapped[bool] = mapped_column(default=False)
    started_by: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    started_at: Mapped[datetime | None]
    resumed_at: Mapped[datetime | None]
    """When the rollout was last resumed. The planner does not count a stall before this moment again."""
    pause_skipped_at: Mapped[datetime | None]
    """When an operator let the next wave start without the rest of the pause."""
    selection: Mapped[dict[str, Any] | None]
    """How the operator narrowed down the bots, as `portal.services.rollouts.narrowing.Narrowing` stores it."""
    ended_at: Mapped[datetime | None]

    release: Mapped[Release] = relationship()
    starter: Mapped[User | None] = relationship()
