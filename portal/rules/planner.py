"""The planner: from what the database shows of one rollout to what should happen next.

`plan` is pure and level-triggered. It looks at the whole picture each time and never at what it said before, so that
any process can ask it at any moment: once its decisions are carried out, asking again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from portal.rules.strategies import Facts, Failure, OnFailure, RolloutStrategy

STALL_AFTER = timedelta(minutes=10)
"""Bots in flight and no step finished for so long: pause, and tell operators."""

RETRY_AFTER = timedelta(minutes=1)
"""Wait before the first retry; each further one waits that much longer."""


class Stage(StrEnum):
    """Where a bot is within the rollout. `failed` covers rolled back, nothing changed, and in need of a person."""

    WAITING = "waiting"
    IN_FLIGHT = "in flight"
    UPDATED = "updated"
    FAILED = "failed"
    LEFT_OUT = "left out"


class BlockReason(StrEnum):
    """Why a waiting bot cannot start now, although it takes part."""

    WINDOW = "outside its hour"
    NODE = "its node takes no updates"
    BUSY = "another update of it is running"
    RETRY = "waits before the next attempt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One bot's part in the rollout."""

    update_id: str
    bot_id: str
    node_id: str
    stage: Stage
    wave: int | None = None
    block_reason: BlockReason | None = None
    may_be_canary: bool = False
    """Healthy, and all its data is protected by snapshots."""
    canary_channel: bool = False
    """Its channel asks to go first."""
    attempt: int = 0
    error: str = ""
    transient: bool = False
    never_ran: bool = False
    """It failed before the release's code ran on it (no snapshot could be taken …): that condemns no release."""
    turned_unhealthy: bool = False
    """It was updated, and has been down since for longer than a start may take."""
    in_doubt: bool = False
    """It was updated and is down just now, as when its node restarts: no wave is cut until that is settled."""
    progress_at: datetime | None = None
    """When it last began or finished a step."""
    ended_at: datetime | None = None

    @property
    def at_fault(self) -> bool:
        """Whether this counts against the release."""
        return self.turned_unhealthy or (self.stage is Stage.FAILED and not self.transient)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSnapshot:
    """Everything that is to be known of one rollout."""

    strategy: RolloutStrategy
    targets: Sequence[Target]
    """In the order in which bots should be taken."""
    paused: bool = False
    """The rollout is paused, or the whole fleet: nothing may start."""
    resumed_at: datetime | None = None
    max_parallel: int = 2
    """Updates side by side on one node."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Updates running or handed to workers already, per node, in all rollouts."""


@dataclass(frozen=True, slots=True)
class StartWave:
    """Make these bots the next wave."""

    wave: int
    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requeue:
    """Take these bots, which have not begun, out of their wave: they cannot start any more and wait for another."""

    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Try this bot again, not before that moment."""

    update_id: str
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Start:
    """Hand these bots to the workers of their nodes."""

    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop starting bots and tell operators why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """End the rollout, and quarantine the release if the bots on which its code ran were reason enough."""

    reason: str
    quarantine: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """No bot is left to update."""


OPEN_STAGES = frozenset({Stage.WAITING, Stage.IN_FLIGHT})

Decision = StartWave | Requeue | Retry | Start | Pause | Abort | Complete


def plan(snapshot: RolloutSnapshot, now: datetime) -> list[Decision]:
    """Decide what should happen to a rollout now.

    1. A failure that the strategy will not accept ends everything.
    2. Failures that cannot be the release's fault are tried again after a wait.
    3. While it is paused nothing starts; a standstill pauses it.
    4. Bots of the wave that cannot start any more go back to the waiting ones.
    5. When nothing is left, it is complete; when the wave has ended, the next one is cut.
    6. Bots of the wave start, as many side by side as a node may bear.
    """
    failures = _failures(snapshot, now)
    if isinstance(failures, Abort):
        return [failures]
    snapshot = _with(snapshot, {retry.update_id: BlockReason.RETRY for retry in failures})
    if snapshot.paused:
        return [*failures]
    if _stands_still(snapshot, now):
        return [*failures, Pause(f"no step finished for {STALL_AFTER // timedelta(minutes=1)} minutes")]
    decisions: list[Decision] = [*failures]
    stranded = {target.update_id: target.block_reason for target in _unbegun(snapshot) if target.block_reason}
    if stranded:
        decisions.append(Requeue(tuple(stranded)))
        snapshot = _with(snapshot, stranded)
    if not any(target.stage in OPEN_STAGES for target in snapshot.targets):
        return [*decisions, Complete()]
    wave = _unbegun(snapshot)
    if not wave and not any(target.stage is Stage.IN_FLIGHT or target.in_doubt for target in snapshot.targets):
        wave = _next_wave(snapshot, now)
        if wave:
            decisions.append(StartWave(last_wave(snapshot) + 1, _ids(wave)))
    starting = _as_many_as_nodes_bear(snapshot, wave)
    if starting:
        decisions.append(Start(_ids(starting)))
    return decisions


def collect_facts(snapshot: RolloutSnapshot, now: datetime, wave: int | None = None) -> Facts:
    """Count what a strategy may know.

    Args:
        view: the rollout.
        now: the moment.
        wave: look at the rollout as a bot of this wave sees it: proven by earlier waves only. By default as the
            next wave would.
    """
    targets = [target for target in snapshot.targets if target.stage is not Stage.LEFT_OUT]
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
        failed=sum(1 for target in targets if target.at_fault),
        proven=any(_proves(target) and target.wave < before for target in targets if target.wave is not None),
        wave_ended_at=max(ended, default=None),
        now=now,
    )


def _failures(snapshot: RolloutSnapshot, now: datetime) -> Abort | list[Retry]:
    retries = []
    for target in snapshot.targets:
        if target.stage is not Stage.FAILED and not target.turned_unhealthy:
            continue
        failure = Failure(target.error, target.transient and not target.turned_unhealthy)
        # After its update a bot is judged beside all others that were updated, not only those before it.
        facts = collect_facts(snapshot, now, None if target.turned_unhealthy else target.wave)
        answer = snapshot.strategy.on_bot_failure(facts, target.bot_id, failure, target.attempt)
        if answer is OnFailure.ABORT:
            return Abort(_why_aborted(facts, target), quarantine=_condemned(snapshot, now))
        if answer is OnFailure.RETRY:
            retries.append(Retry(target.update_id, now + RETRY_AFTER * max(1, target.attempt)))
    return retries


def _condemned(snapshot: RolloutSnapshot, now: datetime) -> bool:
    """Whether the failures of bots on which the release ran would have ended the rollout by themselves."""
    ran = [target for target in snapshot.targets if not (target.stage is Stage.FAILED and target.never_ran)]
    return len(ran) == len(snapshot.targets) or isinstance(_failures(replace(snapshot, targets=ran), now), Abort)


def _with(snapshot: RolloutSnapshot, waiting: Mapping[str, BlockReason | None]) -> RolloutSnapshot:
    """Look at the rollout as it will be when these bots wait, in no wave."""
    targets = [
        replace(target, stage=Stage.WAITING, wave=None, block_reason=waiting[target.update_id])
        if target.update_id in waiting
        else target
        for target in snapshot.targets
    ]
    return replace(snapshot, targets=targets)


def _why_aborted(facts: Facts, target: Target) -> str:
    what = "turned unhealthy after its update" if target.turned_unhealthy else target.error or "could not be updated"
    if not facts.proven and target.never_ran:
        return f"the release could not be tried on the first bot: {what}"
    if not facts.proven:
        return f"the first bot to try this release failed: {what}"
    return f"{facts.failed} bots failed; the last: {what}"


def _stands_still(snapshot: RolloutSnapshot, now: datetime) -> bool:
    flying = [target for target in snapshot.targets if target.stage is Stage.IN_FLIGHT]
    signs = [target.progress_at for target in flying if target.progress_at is not None]
    if snapshot.resumed_at is not None:
        signs.append(snapshot.resumed_at)
    return bool(flying) and bool(signs) and max(signs) + STALL_AFTER <= now


def _next_wave(snapshot: RolloutSnapshot, now: datetime) -> list[Target]:
    due = [target for target in snapshot.targets if is_due(target)]
    if not due:
        return []
    batch = snapshot.strategy.next_batch(collect_facts(snapshot, now))
    if batch.canary:
        due = sorted((target for target in due if target.may_be_canary), key=lambda target: not target.canary_channel)
    return due[: batch.size]


def _as_many_as_nodes_bear(snapshot: RolloutSnapshot, wave: Sequence[Target]) -> list[Target]:
    load = Counter(snapshot.running)
    starting = []
    for target in wave:
        if load[target.node_id] < snapshot.max_parallel:
            load[target.node_id] += 1
            starting.append(target)
    return starting


def _unbegun(snapshot: RolloutSnapshot) -> list[Target]:
    return [target for target in snapshot.targets if target.stage is Stage.WAITING and target.wave is not None]


def is_due(target: Target) -> bool:
    return target.stage is Stage.WAITING and target.wave is None and target.block_reason is None


def _proves(target: Target) -> bool:
    return target.stage is Stage.UPDATED and not target.turned_unhealthy


def last_wave(snapshot: RolloutSnapshot) -> int:
    return max(
        (
            target.wave
            for target in snapshot.targets
            if target.wave is not None and target.stage is not Stage.LEFT_OUT
        ),
        default=0,
    )


def _ids(targets: Sequence[Target]) -> tuple[str, ...]:
    return tuple(target.update_id for target in targets)
