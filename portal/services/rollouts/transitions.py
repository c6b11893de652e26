"""Moving a rollout through its states, each move by compare-and-set and with its event."""

from __future__ import annotations

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
    utcnow,
)
from portal.services import events, fleet_settings
from portal.services.errors import ConflictError
from portal.services.releases import releases
from portal.services.rollouts import notifications


def begin_rollout(session: Session, rollout: Rollout) -> None:
    """Let a scheduled rollout run; nothing happens to any other."""
    if rollout.state is RolloutState.SCHEDULED:
        move(session, rollout, RolloutState.SCHEDULED, RolloutState.RUNNING, started_at=utcnow())


def pause_rollout(session: Session, rollout: Rollout, reason: str, actor: User | None) -> None:
    """Start no further bot; those in flight finish.

    Raises:
        ConflictError: when it has ended or is paused already.
    """
    begin_rollout(session, rollout)
    if not move(session, rollout, RolloutState.RUNNING, RolloutState.PAUSED, reason=reason or None):
        raise ConflictError(f"This rollout is {rollout.state} and cannot be paused.")
    record_event(session, EventTag.ROLLOUT_PAUSED, rollout, actor, reason=reason)


def resume_rollout(session: Session, rollout: Rollout, actor: User | None) -> None:
    """Go on with a paused rollout.

    Raises:
        ConflictError: when it is not paused.
    """
    values = {"reason": None, "resumed_at": utcnow()}
    if not move(session, rollout, RolloutState.PAUSED, RolloutState.RUNNING, **values):
        raise ConflictError(f"This rollout is {rollout.state}; only a paused one can go on.")
    record_event(session, EventTag.ROLLOUT_RESUMED, rollout, actor)


def abort_rollout(
    session: Session, rollout: Rollout, reason: str, actor: User | None, *, quarantine: bool = False
) -> None:
    """End a rollout for good: what has not begun is skipped, bots in flight finish.

    Args:
        session: the transaction.
        rollout: the rollout.
        reason: why, in words.
        actor: the operator; None where failures brought it about.
        quarantine: make sure as well that nobody rolls this release out again.

    Raises:
        ConflictError: when it has ended already.
    """
    if quarantine:
        releases.quarantine(session, rollout.release, reason, actor)
    skipped = SkipReason.QUARANTINED if rollout.release.quarantined_at else SkipReason.ABORTED
    _end(session, rollout, RolloutState.ABORTED, skipped, reason)
    record_event(session, EventTag.ROLLOUT_ABORTED, rollout, actor, reason=reason)


def supersede_rollout(session: Session, rollout: Rollout, newer: Release) -> None:
    """End a rollout because its image has moved on to a newer release.

    Raises:
        ConflictError: when it has ended already.
    """
    reason = f"{newer.version} came out"
    _end(session, rollout, RolloutState.SUPERSEDED, SkipReason.SUPERSEDED, reason)
    record_event(session, EventTag.ROLLOUT_SUPERSEDED, rollout, None, by=newer.digest, reason=reason)


def complete_rollout(session: Session, rollout: Rollout) -> bool:
    """End a rollout none of whose bots is left to update; False when it is not running."""
    if not move(session, rollout, RolloutState.RUNNING, RolloutState.COMPLETED, ended_at=utcnow(), reason=None):
        return False
    notifications.notify_outcome(session, rollout)
    record_event(session, EventTag.ROLLOUT_COMPLETED, rollout, None)
    return True


def may_start_update(session: Session, update: BotUpdate) -> bool:
    """Whether the rollout lets this bot begin; the hour its organization chose is for the caller to look at.

    The message that named it may be old: the rollout or the fleet may have been paused since, or the wave undone.
    """
    rollout = update.rollout
    return (
        update.state is UpdateState.PENDING
        and update.wave is not None
        and (update.not_before is None or update.not_before <= utcnow())
        and rollout.state is RolloutState.RUNNING
        and fleet_settings.get_settings(session).mode is not FleetMode.PAUSED
    )


def _end(session: Session, rollout: Rollout, new: RolloutState, skipped: SkipReason, reason: str) -> None:
    old = rollout.state
    if old not in Rollout.OPEN or not move(session, rollout, old, new, reason=reason, ended_at=utcnow()):
        raise ConflictError(f"This rollout is {rollout.state} already.")
    session.execute(
        sa.update(BotUpdate)
        .where(BotUpdate.rollout_id == rollout.id, BotUpdate.state == UpdateState.PENDING)
        .values(state=UpdateState.SKIPPED, **BotUpdate.left_out(skipped, utcnow()))
    )
    notifications.notify_outcome(session, rollout)


def record_event(session: Session, tag: EventTag, rollout: Rollout, actor: User | None, **data: Any) -> None:
    """Write an event about a rollout, with its release."""
    release = {"digest": rollout.release.digest, "version": rollout.release.version, "image": rollout.release.image}
    events.record(session, tag, actor=actor, rollout_id=rollout.id, data={**release, **data})
