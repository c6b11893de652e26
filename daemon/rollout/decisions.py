"""Application of the planner's decisions by compare-and-set. Used by the orchestrator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, SkipReason, UpdateState, move, update_where
from portal.rules.planner import Abort, Complete, Decision, Pause, Requeue, Retry, Start, StartWave
from portal.services.rollouts import notifications, transitions

_CLEARED: dict[str, Any] = {"wave": None, "skip_reason": None, "step": None, "ended_at": None}
"""Columns of an update that is pending again."""
_IDS_PER_STATEMENT = 1000


def apply_decisions(session: Session, rollout: Rollout, planned_decisions: Iterable[Decision], now: datetime) -> None:
    """Apply the decisions of the planner. `Start` changes nothing, because the workers claim the updates."""
    for decision in planned_decisions:
        match decision:
            case StartWave(wave, update_ids):
                _set_wave(session, update_ids, wave)
            case Requeue(update_ids):
                _set_wave(session, update_ids, None)
            case Retry(update_id, not_before):
                _retry(session, session.get_one(BotUpdate, update_id), not_before)
            case Start():
                pass
            case Pause(reason):
                transitions.pause_rollout(session, rollout, reason, now, actor=None)
                notifications.notify_rollout_stopped(session, rollout)
            case Abort(reason, quarantine):
                transitions.abort_rollout(session, rollout, reason, now, actor=None, quarantine=quarantine)
                notifications.notify_rollout_stopped(session, rollout)
            case Complete():
                transitions.complete_rollout(session, rollout, now)


def skip_updates(session: Session, update_ids: Sequence[str], reason: SkipReason, now: datetime) -> None:
    """Skip those of these updates that are pending, and remove them from their wave."""
    values = BotUpdate.skip_values(reason, now)
    _move_all(session, update_ids, UpdateState.PENDING, UpdateState.SKIPPED, wave=None, **values)


def requeue_ended(session: Session, update_ids: Sequence[str]) -> None:
    """Make those of these updates pending again that are skipped or have failed."""
    for state in (UpdateState.SKIPPED, UpdateState.FAILED):
        _move_all(session, update_ids, state, UpdateState.PENDING, **_CLEARED)


def _retry(session: Session, update: BotUpdate, not_before: datetime) -> None:
    # The cleanup finds failed updates by their state. A pending update would hide archives and containers that the
    # last attempt left.
    if update.cleaned_at is not None:
        move(session, update, UpdateState.FAILED, UpdateState.PENDING, not_before=not_before, **_CLEARED)


def _move_all(session: Session, update_ids: Sequence[str], old: UpdateState, new: UpdateState, **values: Any) -> None:
    for start in range(0, len(update_ids), _IDS_PER_STATEMENT):
        ids = update_ids[start : start + _IDS_PER_STATEMENT]
        update_where(session, BotUpdate, BotUpdate.id.in_(ids), BotUpdate.state == old, state=new, **values)


def _set_wave(session: Session, update_ids: Sequence[str], wave: int | None) -> None:
    _move_all(session, update_ids, UpdateState.PENDING, UpdateState.PENDING, wave=wave, not_before=None)
