"""Progress of rollouts by counts: states, waves, wait reasons, a summary. Used by pages, mails and the command line.

No function here loads the bots of a rollout, so the cost hardly depends on their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Rollout, RolloutState, UpdateState
from portal.rules.health_check_timeout import choose_timeout
from portal.rules.planner import RolloutSnapshot
from portal.rules.remaining import estimate_waves_left, find_next_wave, list_wait_reasons
from portal.rules.rollout_bots import ListedBots, WaitingBots
from portal.rules.strategies import strategy_for
from portal.services.rollouts.fleet_facts import FleetFacts, load_fleet
from portal.services.rollouts.update_facts import UpdateFacts, list_outages, load_facts
from portal.services.rollouts.waiting_bots import StoredWaitingBots

FAILED_STATES = (UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSummary:
    """The progress of a rollout."""

    state: RolloutState
    counts: Mapping[UpdateState, int]
    """Number of bots in each state, zeros included."""
    unhealthy: int
    """Number of updated bots that turned unhealthy after the update."""
    wave: int
    """Number of the last wave; 0 before the first."""
    waves_estimated: int
    """Number of waves if no bot fails; for an ended rollout the actual number."""

    @property
    def total(self) -> int:
        """Number of bots."""
        return sum(self.counts.values())

    @property
    def updated(self) -> int:
        """Number of bots that this rollout has updated."""
        return self.counts[UpdateState.UPDATED]

    @property
    def failed(self) -> int:
        """Number of bots that failed: rolled back, unchanged, or in need of attention."""
        return sum(self.counts[state] for state in FAILED_STATES)

    @property
    def is_live(self) -> bool:
        """Whether a page has to follow the rollout: it is open, or its last updates have not ended."""
        return self.state in Rollout.OPEN or self.counts[UpdateState.RUNNING] > 0

    @property
    def words(self) -> str:
        """Wave and counts in one line, such as `wave 2 of 5 · 2 of 8 updated`."""
        words = [f"wave {self.wave} of {self.waves_estimated}"] if self.waves_estimated else []
        words.append(f"{self.updated} of {self.total} updated")
        for state, label in _LABELS.items():
            if self.counts[state]:
                words.append(f"{self.counts[state]} {label}")
        if self.unhealthy:
            words.append(f"{self.unhealthy} unhealthy after the update")
        return " · ".join(words)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an open rollout waits for."""

    reasons: tuple[str, ...] = ()
    """Why waiting bots are not updated now."""
    next_wave: datetime | None = None
    """When the pause before the next wave ends."""
    next_window: datetime | None = None
    """When the next bot that waits for its window may start."""


_LABELS = {
    UpdateState.ROLLED_BACK: "rolled back",
    UpdateState.FAILED: "failed",
    UpdateState.NEEDS_ATTENTION: "need attention",
    UpdateState.SKIPPED: "skipped",
}


@dataclass
class _Count:
    states: dict[UpdateState, int] = field(default_factory=lambda: dict.fromkeys(UpdateState, 0))
    last_wave: int = 0


def summarize(
    session: Session, rollout: Rollout, now: datetime, health_check_timeout: timedelta | None
) -> RolloutSummary:
    """Summarize the progress of one rollout, see `summarize_all`."""
    return summarize_all(session, [rollout], now, health_check_timeout)[rollout.id]


def summarize_all(
    session: Session, rollouts: Sequence[Rollout], now: datetime, health_check_timeout: timedelta | None
) -> dict[str, RolloutSummary]:
    """Summarize the progress of rollouts, by their ids. The number of statements depends neither on them nor on bots.

    Args:
        session: the transaction.
        rollouts: the rollouts.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    counts = _count_updates(session, [rollout.id for rollout in rollouts])
    unhealthy = _count_unhealthy(session, rollouts, health_check_timeout)
    still_open = [rollout for rollout in rollouts if rollout.state in Rollout.OPEN]
    facts = load_facts(session, still_open) if still_open else {}
    fleet = load_fleet(session, now, health_check_timeout) if still_open else None
    summaries = {}
    for rollout in rollouts:
        count = counts[rollout.id]
        left = 0
        if fleet is not None and rollout.id in facts:
            snapshot = _build_snapshot(rollout, fleet, facts[rollout.id], ListedBots(()))
            left = estimate_waves_left(snapshot, now)
        summaries[rollout.id] = RolloutSummary(
            state=rollout.state,
            counts=count.states,
            unhealthy=unhealthy.get(rollout.id, 0),
            wave=count.last_wave,
            waves_estimated=count.last_wave + left,
        )
    return summaries


def explain_waiting(
    session: Session, rollout: Rollout, now: datetime, health_check_timeout: timedelta | None
) -> Waiting:
    """Explain why a rollout starts no bot at the moment. Empty for a rollout that has ended.

    Args:
        session: the transaction.
        rollout: the rollout.
        now: the moment.
        health_check_timeout: the setting of this installation, if given.
    """
    if rollout.state not in Rollout.OPEN:
        return Waiting()
    fleet = load_fleet(session, now, health_check_timeout)
    facts = load_facts(session, [rollout])[rollout.id]
    waiting = StoredWaitingBots(session, rollout, fleet, facts)
    snapshot = _build_snapshot(rollout, fleet, facts, waiting)
    reasons = list_wait_reasons(snapshot, now)
    return Waiting(
        reasons=tuple(reasons),
        next_wave=find_next_wave(snapshot, now),
        next_window=waiting.find_next_window() if reasons else None,
    )


def list_waves(session: Session, rollout: Rollout, limit: int) -> dict[int | None, dict[UpdateState, int]]:
    """Count the bots of the last waves by state. The key None stands for the bots in no wave, which come last.

    Args:
        session: the transaction.
        rollout: the rollout.
        limit: number of waves; earlier ones are left out.
    """
    last = sa.select(sa.func.max(BotUpdate.wave)).where(BotUpdate.rollout_id == rollout.id).scalar_subquery()
    query = (
        sa.select(BotUpdate.wave, BotUpdate.state, sa.func.count())
        .where(BotUpdate.rollout_id == rollout.id)
        .where(sa.or_(BotUpdate.wave.is_(None), BotUpdate.wave > last - limit))
        .group_by(BotUpdate.wave, BotUpdate.state)
    )
    waves: dict[int | None, dict[UpdateState, int]] = {}
    rows = session.execute(query).all()
    for wave, state, number in sorted(rows, key=lambda row: (row[0] is None, row[0] or 0)):
        waves.setdefault(wave, {})[state] = number
    return waves


def _count_updates(session: Session, rollout_ids: Sequence[str]) -> dict[str, _Count]:
    query = (
        sa.select(BotUpdate.rollout_id, BotUpdate.state, sa.func.count(), sa.func.max(BotUpdate.wave))
        .where(BotUpdate.rollout_id.in_(rollout_ids))
        .group_by(BotUpdate.rollout_id, BotUpdate.state)
    )
    counts = {rollout_id: _Count() for rollout_id in rollout_ids}
    for rollout_id, state, number, wave in session.execute(query):
        count = counts[rollout_id]
        count.states[state] = number
        count.last_wave = max(count.last_wave, wave or 0)
    return counts


def _count_unhealthy(
    session: Session, rollouts: Sequence[Rollout], health_check_timeout: timedelta | None
) -> dict[str, int]:
    by_id = {rollout.id: rollout for rollout in rollouts}
    numbers: dict[str, int] = {}
    for rollout_id, suspect in list_outages(session, rollouts):
        rollout = by_id[rollout_id]
        strategy = strategy_for(rollout.strategy, rollout.parameters)
        timeout = choose_timeout(health_check_timeout, strategy.health_check_timeout())
        if suspect.outage is not None and suspect.outage.is_long(timeout):
            numbers[rollout_id] = numbers.get(rollout_id, 0) + 1
    return numbers


def _build_snapshot(rollout: Rollout, fleet: FleetFacts, facts: UpdateFacts, waiting: WaitingBots) -> RolloutSnapshot:
    return facts.build_snapshot(rollout, fleet, fleet.count_running_per_node(), waiting)
