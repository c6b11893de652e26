"""How far a rollout is, for pages and the command line: counts that add up, waves, and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, RolloutState, SkipReason, UpdateState, utcnow
from portal.rules import windows
from portal.rules.planner import BlockReason, RolloutSnapshot, last_wave
from portal.rules.remaining import estimate_waves_left, list_wait_reasons
from portal.services.rollouts import planner_input
from portal.services.rollouts.planner_input import PlannedUpdate


@dataclass(frozen=True, slots=True)
class WaveProgress:
    """Bots updated together; `number` is None for those not in a wave yet."""

    number: int | None
    updates: tuple[BotUpdate, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSummary:
    """The state of a rollout at a glance."""

    state: RolloutState
    total: int
    """All its bots; equals the sum of `counts`."""
    counts: dict[UpdateState, int]
    """Bots in each state, zeros included."""
    skipped: dict[SkipReason, int]
    """Why bots were skipped; adds up to `counts[SKIPPED]`."""
    unhealthy: int
    """Updated bots that turned unhealthy since."""
    wave: int
    """The wave cut last; 0 before the first."""
    waves_estimated: int
    """Waves there will be if all goes well; those there were, once it has ended."""
    waves: tuple[WaveProgress, ...]
    """In order; bots that are in no wave (yet) come last."""
    waits: tuple[str, ...]
    """Why nothing is going on just now, in words."""
    next_window: datetime | None
    """When the next bot that waits for its hour may start."""
    words: str

    @property
    def updated(self) -> int:
        """Bots that run the release now because of this rollout."""
        return self.counts[UpdateState.UPDATED]

    @property
    def failed(self) -> int:
        """Bots that could not be updated, however that ended."""
        ends = (UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)
        return sum(self.counts[state] for state in ends)


def summarize(session: Session, rollout: Rollout, now: datetime | None = None) -> RolloutSummary:
    """Describe how far a rollout is.

    Args:
        session: any.
        rollout: the rollout.
        now: the moment, for what it waits for; the present by default.
    """
    moment = now or utcnow()
    entries = planner_input.load_updates(session, rollout)
    snapshot = planner_input.build_snapshot(
        session, rollout, entries, planner_input.count_running_per_node(session), moment
    )
    is_open = rollout.state in Rollout.OPEN
    updates = [entry.update for entry in entries]
    counts = {state: sum(update.state is state for update in updates) for state in UpdateState}
    reasons = [update.skip_reason for update in updates if update.state is UpdateState.SKIPPED]
    unhealthy = sum(target.turned_unhealthy for target in snapshot.targets)
    wave = last_wave(snapshot)
    estimated = wave + (estimate_waves_left(snapshot, moment) if is_open else 0)
    return RolloutSummary(
        state=rollout.state,
        total=len(updates),
        counts=counts,
        skipped={reason: reasons.count(reason) for reason in SkipReason if reason in reasons},
        unhealthy=unhealthy,
        wave=wave,
        waves_estimated=estimated,
        waves=_waves(updates),
        waits=tuple(list_wait_reasons(snapshot, moment)) if is_open else (),
        next_window=_next_window(snapshot, entries, moment) if is_open else None,
        words=" · ".join(_words(counts, wave, estimated, unhealthy)),
    )


def describe_all(session: Session, rollouts: Sequence[Rollout]) -> dict[str, str]:
    """Say of each rollout, by its id, how far it is; cheap for the many that have ended, whatever their size."""
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
    words = {found: " · ".join(_words(counts[found], waves[found], waves[found], 0)) for found in ended}
    return words | {
        rollout.id: summarize(session, rollout).words for rollout in rollouts if rollout.state in Rollout.OPEN
    }


def _words(counts: dict[UpdateState, int], wave: int, estimated: int, unhealthy: int) -> list[str]:
    words = [f"wave {wave} of {estimated}"] if estimated else []
    words.append(f"{counts[UpdateState.UPDATED]} of {sum(counts.values())} updated")
    for state, label in (
        (UpdateState.ROLLED_BACK, "rolled back"),
        (UpdateState.FAILED, "failed"),
        (UpdateState.NEEDS_ATTENTION, "in need of a person"),
        (UpdateState.SKIPPED, "skipped"),
    ):
        if counts[state]:
            words.append(f"{counts[state]} {label}")
    if unhealthy:
        words.append(f"{unhealthy} unhealthy since the update")
    return words


def _waves(updates: list[BotUpdate]) -> tuple[WaveProgress, ...]:
    numbers = sorted({update.wave for update in updates if update.wave is not None})
    waves = [WaveProgress(number, tuple(update for update in updates if update.wave == number)) for number in numbers]
    rest = tuple(update for update in updates if update.wave is None)
    return (*waves, WaveProgress(None, rest)) if rest else tuple(waves)


def _next_window(snapshot: RolloutSnapshot, entries: list[PlannedUpdate], now: datetime) -> datetime | None:
    openings = [
        windows.next_window(entry.candidate.hour_utc, now).opens
        for target, entry in zip(snapshot.targets, entries, strict=True)
        if target.block_reason is BlockReason.WINDOW and entry.update.state is UpdateState.PENDING
    ]
    return min(openings, default=None)
