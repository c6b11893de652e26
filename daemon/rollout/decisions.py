"""Carrying out what the planner decided, each change only while the row is still what the planner saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, SkipReason, UpdateState, move
from portal.rules.planner import Abort, Complete, Decision, Pause, Requeue, Retry, Start, StartWave
from portal.services.rollouts import notifications, transitions


def apply_decisions(session: Session, rollout: Rollout, decided: Iterable[Decision]) -> list[str]:
    """Write the decisions down.

    Returns:
        ids of the updates that workers should begin with.
    """
    started: list[str] = []
    for decision in decided:
        match decision:
            case StartWave(wave, update_ids):
                _set_wave(session, update_ids, wave)
            case Requeue(update_ids):
                _set_wave(session, update_ids, None)
            case Retry(update_id, not_before):
                _try_again(session, session.get_one(BotUpdate, update_id), not_before)
            case Start(update_ids):
                started += update_ids
            case Pause(reason):
                transitions.pause_rollout(session, rollout, reason, None)
                notifications.notify_rollout_stopped(session, rollout)
            case Abort(reason, quarantine):
                transitions.abort_rollout(session, rollout, reason, None, quarantine=quarantine)
                notifications.notify_rollout_stopped(session, rollout)
            case Complete():
                transitions.complete_rollout(session, rollout)
    return started


def skip_updates(session: Session, group: Sequence[BotUpdate], reason: SkipReason, now: datetime) -> None:
    """Skip bots that have not begun."""
    for update in group:
        skipped = BotUpdate.left_out(reason, now)
        move(session, update, UpdateState.PENDING, UpdateState.SKIPPED, wave=None, **skipped)


def requeue_skipped(session: Session, update: BotUpdate) -> None:
    """Let a skipped bot take part after all."""
    _make_pending(session, update, UpdateState.SKIPPED)


def _try_again(session: Session, update: BotUpdate, not_before: datetime) -> None:
    # Its archives and containers are found by its state: made pending before they are gone, it would hide them.
    if update.cleaned_at is not None:
        _make_pending(session, update, UpdateState.FAILED, not_before=not_before)


def _make_pending(session: Session, update: BotUpdate, old: UpdateState, **values: Any) -> None:
    fresh = {"wave": None, "skip_reason": None, "step": None, "ended_at": None}
    move(session, update, old, UpdateState.PENDING, **fresh, **values)


def _set_wave(session: Session, update_ids: Sequence[str], wave: int | None) -> None:
    session.execute(
        sa.update(BotUpdate)
        .where(BotUpdate.id.in_(update_ids), BotUpdate.state == UpdateState.PENDING)
        .values(wave=wave, not_before=None)
    )
