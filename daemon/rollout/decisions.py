"""Application of the planner's decisions by compare-and-set. Used by the orchestrator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, SkipReason, UpdateState, move
from portal.rules.planner import Abort, Complete, Decision, Pause, Requeue, Retry, Start, StartWave
from portal.services.rollouts import notifications, transitions


def apply_decisions(
    session: Session, rollout: Rollout, planned_decisions: Iterable[Decision], now: datetime
) -> list[str]:
    """Apply the decisions of the planner.

    Returns:
        Ids of the updates that workers should start.
    """
    started: list[str] = []
    for decision in planned_decisions:
        match decision:
            case StartWave(wave, update_ids):
                _set_wave(session, update_ids, wave)
            case Requeue(update_ids):
                _set_wave(session, update_ids, None)
            case Retry(update_id, not_before):
                _retry(session, session.get_one(BotUpdate, update_id), not_before)
            case Start(update_ids):
                started += update_ids
            case Pause(reason):
                transitions.pause_rollout(session, rollout, reason, now, actor=None)
                notifications.notify_rollout_stopped(session, rollout)
            case Abort(reason, quarantine):
                transitions.abort_rollout(session, rollout, reason, now, actor=None, quarantine=quarantine)
                notifications.notify_rollout_stopped(session, rollout)
            case Complete():
                transitions.complete_rollout(session, rollout, now)
    return started


def skip_updates(session: Session, updates: Sequence[BotUpdate], reason: SkipReason, now: datetime) -> None:
    """Skip pending updates and remove them from their wave."""
    for update in updates:
        values = BotUpdate.skip_values(reason, now)
        move(session, update, UpdateState.PENDING, UpdateState.SKIPPED, wave=None, **values)


def requeue_skipped(session: Session, update: BotUpdate) -> None:
    """Make a skipped update pending again."""
    _make_pending(session, update, UpdateState.SKIPPED)


def _retry(session: Session, update: BotUpdate, not_before: datetime) -> None:
    # The cleanup finds failed updates by their state. A pending update would hide archives and containers that the
    # last attempt left.
    if update.cleaned_at is not None:
        _make_pending(session, update, UpdateState.FAILED, not_before=not_before)


def _make_pending(session: Session, update: BotUpdate, old: UpdateState, **values: Any) -> None:
    cleared = {"wave": None, "skip_reason": None, "step": None, "ended_at": None}
    move(session, update, old, UpdateState.PENDING, **cleared, **values)


def _set_wave(session: Session, update_ids: Sequence[str], wave: int | None) -> None:
    session.execute(
        sa.update(BotUpdate)
        .where(BotUpdate.id.in_(update_ids), BotUpdate.state == UpdateState.PENDING)
        .values(wave=wave, not_before=None)
    )
