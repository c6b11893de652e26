"""The planner: a pure function from the state of one rollout to the decisions about it. Used by the orchestrator.

`plan` is level-triggered. It reads the whole state each time and never its earlier decisions, so any process can call
it at any moment. Once its decisions are applied, planning again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

from portal.rules.rollout_bots import ListedBots, Stage, Tally, Target, WaitingBots
from portal.rules.strategies import Facts, Failure, OnFailure, RolloutStrategy
from portal.rules.waves import select_wave

STALL_AFTER = timedelta(minutes=10)
"""A rollout with bots in flight is paused when no step has finished for this long."""

RETRY_AFTER = timedelta(minutes=4)
"""Wait before the first retry. The wait before the second is twice as long, and so on.

A worker repeats a step for a minute, so with two retries an update gives up before the stop after 15 minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSnapshot:
    """The state of one rollout, as far as the planner needs it."""

    strategy: RolloutStrategy
    tallies: Sequence[Tally] = ()
    """Numbers of the waiting and the updated bots of each wave."""
    in_flight: Sequence[Target] = ()
    """The bots that are being updated."""
    failures: Sequence[Target] = ()
    """The failed bots, and the updated bots that turned unhealthy, oldest first."""
    in_doubt: bool = False
    """An updated bot has been down for a short time. No wave starts until it is healthy or counts as unhealthy."""
    waiting: WaitingBots
    """The bots that wait."""
    paused: bool = False
    """The rollout or the whole fleet is paused."""
    resumed_at: datetime | None = None
    pause_skipped_at: datetime | None = None
    """When an operator let the next wave start at once. No pause follows a wave that ended before."""
    max_parallel: int = 2
    """Updates that may run in parallel on one node."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Updates per node that run or were handed to workers, in all rollouts."""

    @classmethod
    def from_targets(cls, targets: Sequence[Target], **values: Any) -> Self:
        """Create the snapshot of a rollout from a list of all its bots, oldest first."""
        bots = ListedBots(targets)
        return cls(
            tallies=bots.count_by_wave(),
            in_flight=bots.list_in_flight(),
            failures=bots.list_failures(),
            in_doubt=bots.has_doubtful(),
            waiting=bots,
            **values,
        )

    @property
    def failed(self) -> list[Target]:
        """The failed bots."""
        return [target for target in self.failures if target.stage is Stage.FAILED]

    def count(self, stage: Stage) -> int:
        """Count the waiting or the updated bots."""
        return sum(tally.number for tally in self.tallies if tally.stage is stage)

    def count_unstarted(self) -> int:
        """Count the bots that are in a wave and have not started."""
        return sum(tally.number for tally in self.tallies if _is_unstarted(tally))


@dataclass(frozen=True, slots=True)
class StartWave:
    """Assign these bots to a new wave."""

    wave: int
    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requeue:
    """Remove these bots from their wave, because they can no longer start; a later wave takes them."""

    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Try this bot again at `not_before` or later."""

    update_id: str
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Start:
    """Hand these bots to the workers of their nodes."""

    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the rollout and tell operators why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """End the rollout because of failures. Quarantine the release if its code ran on enough of the failed bots."""

    reason: str
    quarantine: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """End the rollout because no bot is left to update."""


Decision = StartWave | Requeue | Retry | Start | Pause | Abort | Complete


def plan(snapshot: RolloutSnapshot, now: datetime) -> list[Decision]:
    """Decide what happens to a rollout now.

    1. Abort when the strategy does not accept the failures.
    2. Retry bots whose failure is not the release's fault, after a wait.
    3. Start nothing while the rollout is paused; pause it when it has stalled.
    4. Requeue bots of the current wave that can no longer start.
    5. Complete the rollout when no bot is left.
    6. Start the next wave when the current one has ended.
    7. Start the bots of the wave, as many per node as may run in parallel.
    """
    verdict = _judge_failures(snapshot, now)
    if isinstance(verdict, Abort):
        return [verdict]

    decisions: list[Decision] = [*verdict]
    snapshot = _retried(snapshot, {retry.update_id for retry in verdict})

    if snapshot.paused:
        return decisions
    if _has_stalled(snapshot, now):
        return [*decisions, Pause(f"no step finished for {STALL_AFTER // timedelta(minutes=1)} minutes")]

    blocked = snapshot.waiting.list_blocked() if snapshot.count_unstarted() else ()
    if blocked:
        decisions.append(Requeue(_ids(blocked)))
        snapshot = _requeued(snapshot, blocked)

    if not snapshot.in_flight and not snapshot.count(Stage.WAITING):
        return [*decisions, Complete()]

    if snapshot.count_unstarted():
        starting = _list_starting(snapshot)
    else:
        wave = _select_next_wave(snapshot, now) if _may_start_wave(snapshot) else []
        if wave:
            decisions.append(StartWave(last_wave(snapshot) + 1, _ids(wave)))
        starting = _limit_per_node(snapshot, wave)
    if starting:
        decisions.append(Start(_ids(starting)))
    return decisions


def collect_facts(snapshot: RolloutSnapshot, now: datetime, wave: int | None = None) -> Facts:
    """Collect the facts that a strategy decides by.

    Args:
        snapshot: the rollout.
        now: the moment.
        wave: the wave of a failed bot, for which only earlier waves can have proven the release. By default the
            facts are those for the next wave.
    """
    last = last_wave(snapshot)
    before = last + 1 if wave is None else wave
    ended = [part.ended_at for part in _list_parts(snapshot) if part.wave == last and part.ended_at is not None]
    wave_ended_at = max(ended, default=None)
    if wave_ended_at and snapshot.pause_skipped_at and wave_ended_at <= snapshot.pause_skipped_at:
        wave_ended_at = None
    waiting, updated = snapshot.count(Stage.WAITING), snapshot.count(Stage.UPDATED)
    return Facts(
        total=waiting + updated + len(snapshot.in_flight) + len(snapshot.failed),
        wave=last if wave is None else wave,
        due=snapshot.waiting.count_due() if waiting else 0,
        in_flight=_count_open(snapshot, last),
        updated=updated,
        failed=sum(1 for target in snapshot.failures if target.counts_against_release),
        proven=_is_proven(snapshot, before),
        wave_ended_at=wave_ended_at,
        now=now,
    )


def last_wave(snapshot: RolloutSnapshot) -> int:
    """Return the number of the last wave; 0 before the first."""
    return max((part.wave for part in _list_parts(snapshot) if part.wave is not None), default=0)


def _list_parts(snapshot: RolloutSnapshot) -> list[Tally | Target]:
    """List the tallies and single bots that together are all bots of the rollout."""
    return [*snapshot.tallies, *snapshot.in_flight, *snapshot.failed]


def _judge_failures(snapshot: RolloutSnapshot, now: datetime) -> Abort | list[Retry]:
    """Ask the strategy about each failed bot: one answer may abort the rollout, others ask for a retry."""
    retries = []
    facts_by_wave: dict[int | None, Facts] = {}
    for target in snapshot.failures:
        failure = Failure(target.error, target.transient and not target.turned_unhealthy)
        # A bot that turned unhealthy after its update is judged by all waves, not only by the waves before its own.
        wave = None if target.turned_unhealthy else target.wave
        if wave not in facts_by_wave:
            facts_by_wave[wave] = collect_facts(snapshot, now, wave)
        facts = facts_by_wave[wave]
        answer = snapshot.strategy.on_bot_failure(facts, target.bot_id, failure, target.attempt)
        if answer is OnFailure.ABORT:
            return Abort(_describe_abort(facts, target), quarantine=_must_quarantine(snapshot, now))
        if answer is OnFailure.RETRY and not target.needs_attention:
            retries.append(Retry(target.update_id, now + RETRY_AFTER * max(1, target.attempt)))
    return retries


def _must_quarantine(snapshot: RolloutSnapshot, now: datetime) -> bool:
    """Return whether the bots on which the release ran would abort the rollout without the other failed bots."""
    ran = [target for target in snapshot.failures if not (target.stage is Stage.FAILED and target.never_ran)]
    if len(ran) == len(snapshot.failures):
        return True
    return isinstance(_judge_failures(replace(snapshot, failures=ran), now), Abort)


def _describe_abort(facts: Facts, target: Target) -> str:
    error = "turned unhealthy after its update" if target.turned_unhealthy else target.error or "could not be updated"
    if not facts.proven and target.never_ran:
        return f"the release could not be tried on the first bot: {error}"
    if not facts.proven:
        return f"the first bot to try this release failed: {error}"
    return f"{facts.failed} bots failed; the last: {error}"


def _retried(snapshot: RolloutSnapshot, update_ids: Collection[str]) -> RolloutSnapshot:
    """Return the rollout as it will be when these failed bots wait for their retry."""
    if not update_ids:
        return snapshot
    failures = [target for target in snapshot.failures if target.update_id not in update_ids]
    tallies = [*snapshot.tallies, Tally(Stage.WAITING, None, len(update_ids))]
    return replace(snapshot, failures=failures, tallies=tallies)


def _requeued(snapshot: RolloutSnapshot, blocked: Sequence[Target]) -> RolloutSnapshot:
    """Return the rollout as it will be when these bots wait outside any wave."""
    left = Counter(target.wave for target in blocked)
    tallies = [
        replace(tally, number=tally.number - left[tally.wave]) if _is_unstarted(tally) else tally
        for tally in snapshot.tallies
    ]
    tallies.append(Tally(Stage.WAITING, None, len(blocked)))
    return replace(snapshot, tallies=[tally for tally in tallies if tally.number > 0])


def _has_stalled(snapshot: RolloutSnapshot, now: datetime) -> bool:
    progress = [target.progress_at for target in snapshot.in_flight if target.progress_at is not None]
    if snapshot.resumed_at is not None:
        progress.append(snapshot.resumed_at)
    return bool(snapshot.in_flight) and bool(progress) and max(progress) + STALL_AFTER <= now


def _is_unstarted(tally: Tally) -> bool:
    return tally.stage is Stage.WAITING and tally.wave is not None


def _count_open(snapshot: RolloutSnapshot, wave: int) -> int:
    """Count the bots of a wave whose update has not ended."""
    unstarted = sum(tally.number for tally in snapshot.tallies if _is_unstarted(tally) and tally.wave == wave)
    return unstarted + sum(1 for target in snapshot.in_flight if target.wave == wave)


def _is_proven(snapshot: RolloutSnapshot, before: int) -> bool:
    """Return whether a wave before this one has a healthy updated bot."""
    healthy = Counter({tally.wave: tally.number for tally in snapshot.tallies if tally.stage is Stage.UPDATED})
    healthy.subtract(target.wave for target in snapshot.failures if target.stage is Stage.UPDATED)
    return any(wave is not None and wave < before and number > 0 for wave, number in healthy.items())


def _may_start_wave(snapshot: RolloutSnapshot) -> bool:
    return not snapshot.in_flight and not snapshot.in_doubt


def _select_next_wave(snapshot: RolloutSnapshot, now: datetime) -> list[Target]:
    facts = collect_facts(snapshot, now)
    if not facts.due:
        return []
    batch = snapshot.strategy.next_batch(facts)
    return select_wave(batch, snapshot.waiting.list_due(batch)) if batch.size else []


def _list_starting(snapshot: RolloutSnapshot) -> list[Target]:
    """List the bots of the current wave that can start now."""
    full = {node_id for node_id, number in snapshot.running.items() if number >= snapshot.max_parallel}
    return _limit_per_node(snapshot, snapshot.waiting.list_startable(full, snapshot.max_parallel))


def _limit_per_node(snapshot: RolloutSnapshot, wave: Sequence[Target]) -> list[Target]:
    running = Counter(snapshot.running)
    starting = []
    for target in wave:
        if running[target.node_id] < snapshot.max_parallel:
            running[target.node_id] += 1
            starting.append(target)
    return starting


def _ids(targets: Sequence[Target]) -> tuple[str, ...]:
    return tuple(target.update_id for target in targets)
