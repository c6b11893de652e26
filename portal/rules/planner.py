"""The planner: a pure function from the state of one rollout to the decisions about it. Used by the orchestrator.

`plan` is level-triggered. It reads the whole state each time and never its earlier decisions, so any process can call
it at any moment. Once its decisions are applied, planning again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from portal.rules.strategies import Facts, Failure, OnFailure, RolloutStrategy
from portal.rules.waves import select_wave

STALL_AFTER = timedelta(minutes=10)
"""A rollout with bots in flight is paused when no step has finished for this long."""

RETRY_AFTER = timedelta(minutes=1)
"""Wait before the first retry. The wait before the second is twice as long, and so on."""


class Stage(StrEnum):
    """Stage of a bot within the rollout. `FAILED` covers rolled back, unchanged, and in need of attention."""

    WAITING = "waiting"
    IN_FLIGHT = "in flight"
    UPDATED = "updated"
    FAILED = "failed"
    SKIPPED = "skipped"


class BlockReason(StrEnum):
    """Why a waiting bot of the rollout cannot start now."""

    WINDOW = "outside its window"
    NODE = "its node accepts no updates"
    BUSY = "another update of the bot is running"
    RETRY = "waiting before a retry"
    DOWN = "the bot has stopped and is being started"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One bot of the rollout."""

    update_id: str
    bot_id: str
    node_id: str
    stage: Stage
    wave: int | None = None
    block_reason: BlockReason | None = None
    may_be_canary: bool = False
    """The bot is healthy and snapshots protect all its data."""
    canary_channel: bool = False
    """The bot follows the canary channel, which asks to go first."""
    attempt: int = 0
    error: str = ""
    transient: bool = False
    never_ran: bool = False
    """The update failed before the release's code ran, so the failure does not quarantine the release."""
    needs_attention: bool = False
    """An operator has to repair the bot before it can be tried again."""
    turned_unhealthy: bool = False
    """The bot was updated and has been down since for longer than the health check may take."""
    in_doubt: bool = False
    """The bot was updated and has been down for a short time, as when its node restarts. No wave starts until the
    bot is healthy again or counts as unhealthy."""
    progress_at: datetime | None = None
    """When the update last started or finished a step."""
    ended_at: datetime | None = None

    @property
    def counts_against_release(self) -> bool:
        """Whether the release may have caused the failure of this bot."""
        return self.turned_unhealthy or (self.stage is Stage.FAILED and not self.transient)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSnapshot:
    """The state of one rollout, as far as the planner needs it."""

    strategy: RolloutStrategy
    targets: Sequence[Target]
    """The bots, oldest first."""
    paused: bool = False
    """The rollout or the whole fleet is paused."""
    resumed_at: datetime | None = None
    max_parallel: int = 2
    """Updates that may run in parallel on one node."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Updates per node that run or were handed to workers, in all rollouts."""


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


OPEN_STAGES = frozenset({Stage.WAITING, Stage.IN_FLIGHT})

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
    snapshot = _requeued(snapshot, {retry.update_id: BlockReason.RETRY for retry in verdict})

    if snapshot.paused:
        return decisions
    if _has_stalled(snapshot, now):
        return [*decisions, Pause(f"no step finished for {STALL_AFTER // timedelta(minutes=1)} minutes")]

    blocked = {target.update_id: target.block_reason for target in _unstarted(snapshot) if target.block_reason}
    if blocked:
        decisions.append(Requeue(tuple(blocked)))
        snapshot = _requeued(snapshot, blocked)

    if not any(target.stage in OPEN_STAGES for target in snapshot.targets):
        return [*decisions, Complete()]

    wave = _unstarted(snapshot)
    if not wave and _may_start_wave(snapshot):
        wave = _select_next_wave(snapshot, now)
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
    targets = [target for target in snapshot.targets if target.stage is not Stage.SKIPPED]
    last = last_wave(snapshot)
    before = last + 1 if wave is None else wave
    in_last = [target for target in targets if target.wave == last]
    ended = [target.ended_at for target in in_last if target.ended_at is not None]
    return Facts(
        total=len(targets),
        wave=last if wave is None else wave,
        due=sum(1 for target in targets if is_due(target)),
        in_flight=sum(1 for target in in_last if target.stage in OPEN_STAGES),
        updated=sum(1 for target in targets if target.stage is Stage.UPDATED),
        failed=sum(1 for target in targets if target.counts_against_release),
        proven=any(_proves_release(target) and target.wave < before for target in targets if target.wave is not None),
        wave_ended_at=max(ended, default=None),
        now=now,
    )


def is_due(target: Target) -> bool:
    """Return whether the next wave may take this bot."""
    return target.stage is Stage.WAITING and target.wave is None and target.block_reason is None


def last_wave(snapshot: RolloutSnapshot) -> int:
    """Return the number of the last wave; 0 before the first."""
    return max(
        (target.wave for target in snapshot.targets if target.wave is not None and target.stage is not Stage.SKIPPED),
        default=0,
    )


def _judge_failures(snapshot: RolloutSnapshot, now: datetime) -> Abort | list[Retry]:
    """Ask the strategy about each failed bot: one answer may abort the rollout, others ask for a retry."""
    retries = []
    for target in snapshot.targets:
        if target.stage is not Stage.FAILED and not target.turned_unhealthy:
            continue
        failure = Failure(target.error, target.transient and not target.turned_unhealthy)
        # A bot that turned unhealthy after its update is judged by all waves, not only by the waves before its own.
        facts = collect_facts(snapshot, now, None if target.turned_unhealthy else target.wave)
        answer = snapshot.strategy.on_bot_failure(facts, target.bot_id, failure, target.attempt)
        if answer is OnFailure.ABORT:
            return Abort(_describe_abort(facts, target), quarantine=_must_quarantine(snapshot, now))
        if answer is OnFailure.RETRY and not target.needs_attention:
            retries.append(Retry(target.update_id, now + RETRY_AFTER * max(1, target.attempt)))
    return retries


def _must_quarantine(snapshot: RolloutSnapshot, now: datetime) -> bool:
    """Return whether the bots on which the release ran would abort the rollout without the other failed bots."""
    ran = [target for target in snapshot.targets if not (target.stage is Stage.FAILED and target.never_ran)]
    if len(ran) == len(snapshot.targets):
        return True
    return isinstance(_judge_failures(replace(snapshot, targets=ran), now), Abort)


def _describe_abort(facts: Facts, target: Target) -> str:
    error = "turned unhealthy after its update" if target.turned_unhealthy else target.error or "could not be updated"
    if not facts.proven and target.never_ran:
        return f"the release could not be tried on the first bot: {error}"
    if not facts.proven:
        return f"the first bot to try this release failed: {error}"
    return f"{facts.failed} bots failed; the last: {error}"


def _requeued(snapshot: RolloutSnapshot, block_reasons: Mapping[str, BlockReason | None]) -> RolloutSnapshot:
    """Return the rollout as it will be when these bots wait outside any wave."""
    targets = [
        replace(target, stage=Stage.WAITING, wave=None, block_reason=block_reasons[target.update_id])
        if target.update_id in block_reasons
        else target
        for target in snapshot.targets
    ]
    return replace(snapshot, targets=targets)


def _has_stalled(snapshot: RolloutSnapshot, now: datetime) -> bool:
    in_flight = [target for target in snapshot.targets if target.stage is Stage.IN_FLIGHT]
    progress = [target.progress_at for target in in_flight if target.progress_at is not None]
    if snapshot.resumed_at is not None:
        progress.append(snapshot.resumed_at)
    return bool(in_flight) and bool(progress) and max(progress) + STALL_AFTER <= now


def _unstarted(snapshot: RolloutSnapshot) -> list[Target]:
    """List the bots of the current wave that have not started."""
    return [target for target in snapshot.targets if target.stage is Stage.WAITING and target.wave is not None]


def _may_start_wave(snapshot: RolloutSnapshot) -> bool:
    return not any(target.stage is Stage.IN_FLIGHT or target.in_doubt for target in snapshot.targets)


def _select_next_wave(snapshot: RolloutSnapshot, now: datetime) -> list[Target]:
    due = [target for target in snapshot.targets if is_due(target)]
    if not due:
        return []
    return select_wave(snapshot.strategy.next_batch(collect_facts(snapshot, now)), due)


def _limit_per_node(snapshot: RolloutSnapshot, wave: Sequence[Target]) -> list[Target]:
    running = Counter(snapshot.running)
    starting = []
    for target in wave:
        if running[target.node_id] < snapshot.max_parallel:
            running[target.node_id] += 1
            starting.append(target)
    return starting


def _proves_release(target: Target) -> bool:
    return target.stage is Stage.UPDATED and not target.turned_unhealthy


def _ids(targets: Sequence[Target]) -> tuple[str, ...]:
    return tuple(target.update_id for target in targets)
