"""Progress of a rollout: counts, waves, wait reasons, a summary. Used by pages, mails and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, RolloutState, SkipReason, UpdateState
from portal.rules import windows
from portal.rules.planner import last_wave
from portal.rules.remaining import estimate_waves_left, list_wait_reasons
from portal.rules.rollout_bots import BlockReason, Target
from portal.services.rollouts import planner_input
from portal.services.rollouts.planner_input import PlannedUpdate


@dataclass(frozen=True, slots=True)
class WaveProgress:
    """The updates of one wave; `number` is None for updates in no wave."""

    number: int | None
    updates: tuple[BotUpdate, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSummary:
    """The progress of a rollout."""

    state: RolloutState
    total: int
    """Number of bots, the sum of `counts`."""
    counts: dict[UpdateState, int]
    """Number of bots in each state, zeros included."""
    skipped: dict[SkipReason, int]
    """Number of skipped bots by reason; the sum is `counts[SKIPPED]`."""
    unhealthy: int
    """Number of updated bots that turned unhealthy after the update."""
    wave: int
    """Number of the last wave; 0 before the first."""
    waves_estimated: int
    """Number of waves if no bot fails; for an ended rollout the actual number."""
    waves: tuple[WaveProgress, ...]
    """The waves in order; updates in no wave come last."""
    waits: tuple[str, ...]
    """Why waiting bots are not updated now."""
    next_window: datetime | None
    """When the next bot that waits for its window may start."""
    words: str
    """Wave and counts in one line, such as `wave 2 of 5 · 2 of 8 updated`."""

    @property
    def updated(self) -> int:
        """Number of bots that this rollout has updated."""
        return self.counts[UpdateState.UPDATED]

    @property
    def failed(self) -> int:
        """Number of bots that failed: rolled back, unchanged, or in need of attention."""
        ends = (UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)
        return sum(self.counts[state] for state in ends)


def summarize(
    session: Session, rollout: Rollout, now: datetime, health_check_timeout: timedelta | None
) -> RolloutSummary:
    """Summarize the progress of a rollout.

    Args:
        session: the transaction.
        rollout: the rollout.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    planned = planner_input.load_updates(session, rollout)
    targets = planner_input.build_targets(session, rollout, planned, now, health_check_timeout=health_check_timeout)
    snapshot = planner_input.build_snapshot(session, rollout, targets)
    is_open = rollout.state in Rollout.OPEN
    updates = [entry.update for entry in planned]
    counts = {state: sum(update.state is state for update in updates) for state in UpdateState}
    reasons = [update.skip_reason for update in updates if update.state is UpdateState.SKIPPED]
    unhealthy = sum(target.turned_unhealthy for target in targets)
    wave = last_wave(snapshot)
    estimated = wave + (estimate_waves_left(snapshot, now) if is_open else 0)
    return RolloutSummary(
        state=rollout.state,
        total=len(updates),
        counts=counts,
        skipped={reason: reasons.count(reason) for reason in SkipReason if reason in reasons},
        unhealthy=unhealthy,
        wave=wave,
        waves_estimated=estimated,
        waves=_group_by_wave(updates),
        waits=tuple(list_wait_reasons(snapshot, targets, now)) if is_open else (),
        next_window=_next_window(targets, planned, now) if is_open else None,
        words=" · ".join(_words(counts, wave, estimated, unhealthy)),
    )


def describe_all(
    session: Session, rollouts: Sequence[Rollout], now: datetime, health_check_timeout: timedelta | None
) -> dict[str, str]:
    """Return the progress line of each rollout, by its id. All ended rollouts together cost one query."""
    ended = [rollout.id for rollout in rollouts if rollout.state not in Rollout.OPEN]
    query = (
        sa.select(BotUpdate.rollout_id, BotUpdate.state, sa.func.count(), sa.func.max(BotUpdate.wave))
        .where(BotUpdate.rollout_id.in_(ended))
        .group_by(BotUpdate.rollout_id, BotUpdate.state)
    )
    counts = {rollout_id: dict.fromkeys(UpdateState, 0) for rollout_id in ended}
    waves = dict.fromkeys(ended, 0)
    for rollout_id, state, number, wave in session.execute(query):
        counts[rollout_id][state] = number
        waves[rollout_id] = max(waves[rollout_id], wave or 0)
    words = {key: " · ".join(_words(counts[key], waves[key], waves[key], 0)) for key in ended}
    return words | {
        rollout.id: summarize(session, rollout, now, health_check_timeout).words
        for rollout in rollouts
        if rollout.state in Rollout.OPEN
    }


def _words(counts: dict[UpdateState, int], wave: int, estimated: int, unhealthy: int) -> list[str]:
    words = [f"wave {wave} of {estimated}"] if estimated else []
    words.append(f"{counts[UpdateState.UPDATED]} of {sum(counts.values())} updated")
    for state, label in (
        (UpdateState.ROLLED_BACK, "rolled back"),
        (UpdateState.FAILED, "failed"),
        (UpdateState.NEEDS_ATTENTION, "need attention"),
        (UpdateState.SKIPPED, "skipped"),
    ):
        if counts[state]:
            words.append(f"{counts[state]} {label}")
    if unhealthy:
        words.append(f"{unhealthy} unhealthy after the update")
    return words


def _group_by_wave(updates: list[BotUpdate]) -> tuple[WaveProgress, ...]:
    numbers = sorted({update.wave for update in updates if update.wave is not None})
    waves = [WaveProgress(number, tuple(update for update in updates if update.wave == number)) for number in numbers]
    rest = tuple(update for update in updates if update.wave is None)
    return (*waves, WaveProgress(None, rest)) if rest else tuple(waves)


def _next_window(targets: list[Target], planned: list[PlannedUpdate], now: datetime) -> datetime | None:
    openings = [
        windows.next_window(entry.candidate.hour_utc, now).opens
        for target, entry in zip(targets, planned, strict=True)
        if target.block_reason is BlockReason.WINDOW and entry.update.state is UpdateState.PENDING
    ]
    return min(openings, default=None)
