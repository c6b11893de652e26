"""State transitions of a rollout by compare-and-set, with events. Used by views, commands and the orchestrator."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    BotUpdate,
    EventTag,
    FleetMode,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    UpdateState,
    User,
    move,
    update_where,
)
from portal.services import events, fleet_settings
from portal.services.errors import ConflictError
from portal.services.releases import releases
from portal.services.rollouts import notifications


def begin_rollout(session: Session, rollout: Rollout, now: datetime) -> None:
    """Start a scheduled rollout; do nothing in any other state."""
    if rollout.state is RolloutState.SCHEDULED:
        move(session, rollout, RolloutState.SCHEDULED, RolloutState.RUNNING, started_at=now)


def pause_rollout(session: Session, rollout: Rollout, reason: str, now: datetime, *, actor: User | None) -> None:
    """Pause a rollout: no further bot starts, and bots in flight finish.

    Args:
        session: the transaction.
        rollout: the rollout.
        reason: why, for operators.
        now: the moment.
        actor: the operator; None where the planner paused the rollout.

    Raises:
        ConflictError: the rollout has ended or is paused already.
    """
    begin_rollout(session, rollout, now)
    if not move(session, rollout, RolloutState.RUNNING, RolloutState.PAUSED, reason=reason or None):
        raise ConflictError(f"This rollout is {rollout.state} and cannot be paused.")
    record_event(session, EventTag.ROLLOUT_PAUSED, rollout, actor=actor, reason=reason)


def resume_rollout(session: Session, rollout: Rollout, now: datetime, *, actor: User | None) -> None:
    """Resume a paused rollout.

    Raises:
        ConflictError: the rollout is not paused.
    """
    if not move(session, rollout, RolloutState.PAUSED, RolloutState.RUNNING, reason=None, resumed_at=now):
        raise ConflictError(f"This rollout is {rollout.state}. Only a paused rollout can be resumed.")
    record_event(session, EventTag.ROLLOUT_RESUMED, rollout, actor=actor)


def skip_pause(session: Session, rollout: Rollout, now: datetime, *, actor: User | None) -> None:
    """Let the next wave start without the rest of the pause. Later pauses stay.

    Raises:
        ConflictError: the rollout does not run.
    """
    _hasten(session, rollout, {"pause_skipped_at": now}, "the pause between waves", actor=actor)


def ignore_windows(session: Session, rollout: Rollout, *, actor: User | None) -> None:
    """Let the rest of a rollout start at once, outside the update hours of organizations.

    Raises:
        ConflictError: the rollout does not run.
    """
    _hasten(session, rollout, {"ignore_windows": True}, "update hours", actor=actor)


def abort_rollout(
    session: Session,
    rollout: Rollout,
    reason: str,
    now: datetime,
    *,
    actor: User | None,
    quarantine: bool = False,
) -> None:
    """Abort a rollout: pending updates are skipped, and bots in flight finish.

    Args:
        session: the transaction.
        rollout: the rollout.
        reason: why, for operators.
        now: the moment.
        actor: the operator; None where failures caused the abort.
        quarantine: quarantine the release too.

    Raises:
        ConflictError: the rollout has ended already.
    """
    if quarantine:
        releases.quarantine(session, rollout.release, reason, now, actor=actor)
    skip_reason = SkipReason.QUARANTINED if rollout.release.quarantined_at else SkipReason.ABORTED
    _end_early(session, rollout, RolloutState.ABORTED, skip_reason, reason, now=now)
    record_event(session, EventTag.ROLLOUT_ABORTED, rollout, actor=actor, reason=reason)


def supersede_rollout(session: Session, rollout: Rollout, newer: Release, now: datetime) -> None:
    """End a rollout because its image points at a newer release.

    Raises:
        ConflictError: the rollout has ended already.
    """
    reason = f"{newer.version} was released"
    _end_early(session, rollout, RolloutState.SUPERSEDED, SkipReason.SUPERSEDED, reason, now=now)
    record_event(session, EventTag.ROLLOUT_SUPERSEDED, rollout, actor=None, by=newer.digest, reason=reason)


def complete_rollout(session: Session, rollout: Rollout, now: datetime) -> bool:
    """End a rollout that has no bot left to update. Return False when it is not running."""
    if not move(session, rollout, RolloutState.RUNNING, RolloutState.COMPLETED, ended_at=now, reason=None):
        return False
    notifications.notify_outcome(session, rollout)
    record_event(session, EventTag.ROLLOUT_COMPLETED, rollout, actor=None)
    return True


def may_start_update(session: Session, update: BotUpdate, now: datetime) -> bool:
    """Return whether rollout and fleet allow an update to start. The caller checks the window.

    A job may arrive late: since it was enqueued, the rollout or the fleet may have been paused, or the bot may have
    been removed from its wave.
    """
    rollout = update.rollout
    return (
        update.state is UpdateState.PENDING
        and update.wave is not None
        and (update.not_before is None or update.not_before <= now)
        and rollout.state is RolloutState.RUNNING
        and fleet_settings.get_settings(session).mode is not FleetMode.PAUSED
    )


def record_event(session: Session, tag: EventTag, rollout: Rollout, *, actor: User | None, **data: Any) -> None:
    """Record an event about a rollout, with its release."""
    release = {"digest": rollout.release.digest, "version": rollout.release.version, "image": rollout.release.image}
    events.record(session, tag, actor=actor, rollout_id=rollout.id, data={**release, **data})


def _hasten(session: Session, rollout: Rollout, values: dict[str, Any], skipped: str, *, actor: User | None) -> None:
    running = Rollout.state == RolloutState.RUNNING
    if not update_where(session, Rollout, Rollout.id == rollout.id, running, **values):
        raise ConflictError(f"This rollout is {rollout.state}. Only a running rollout can be started early.")
    session.refresh(rollout)
    record_event(session, EventTag.ROLLOUT_HASTENED, rollout, actor=actor, skipped=skipped)


def _end_early(
    session: Session, rollout: Rollout, new: RolloutState, skip_reason: SkipReason, reason: str, *, now: datetime
) -> None:
    old = rollout.state
    if old not in Rollout.OPEN or not move(session, rollout, old, new, reason=reason, ended_at=now):
        raise ConflictError(f"This rollout is {rollout.state} already.")
    session.execute(
        sa.update(BotUpdate)
        .where(BotUpdate.rollout_id == rollout.id, BotUpdate.state == UpdateState.PENDING)
        .values(state=UpdateState.SKIPPED, **BotUpdate.skip_values(skip_reason, now))
    )
    notifications.notify_outcome(session, rollout)
