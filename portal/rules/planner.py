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

STANDSTILL = timedelta(minutes=10)
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


class Hold(StrEnum):
    """Why a waiting bot cannot start now, although it takes part."""

    WINDOW = "outside its hour"
    NODE = "its node takes no updates"
    BUSY = "another update of it is running"
    RETRY = "waits before the next attempt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One bot's part in the rollout."""

    update_id: str
    bot_id: str
    node_id: str
    stage: Stage
    wave: int | None = None
    hold: Hold | None = None
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
class View:
    """Everything that is to be known of one rollout."""

    strategy: RolloutStrategy
    parts: Sequence[Part]
    """In the order in which bots should be taken."""
    paused: bool = False
    """The rollout is paused, or the whole fleet: nothing may start."""
    resumed_at: datetime | None = None
    max_parallel: int = 2
    """Updates side by side on one node."""
    running: Mapping[str, int] = field(default_factory=dict)
    """Updates running or handed to workers already, per node, in all rollouts."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Make these bots the next wave."""

    wave: int
    update_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PutBack:
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


UNENDED = frozenset({Stage.WAITING, Stage.IN_FLIGHT})

Decision = Cut | PutBack | Retry | Start | Pause | Abort | Complete


def plan(view: View, now: datetime) -> list[Decision]:
    """Decide what should happen to a rollout now.

    1. A failure that the strategy will not accept ends everything.
    2. Failures that cannot be the release's fault are tried again after a wait.
    3. While it is paused nothing starts; a standstill pauses it.
    4. Bots of the wave that cannot start any more go back to the waiting ones.
    5. When nothing is left, it is complete; when the wave has ended, the next one is cut.
    6. Bots of the wave start, as many side by side as a node may bear.
    """
    failures = _failures(view, now)
    if isinstance(failures, Abort):
        return [failures]
    view = _with(view, {retry.update_id: Hold.RETRY for retry in failures})
    if view.paused:
        return [*failures]
    if _stands_still(view, now):
        return [*failures, Pause(f"no step finished for {STANDSTILL // timedelta(minutes=1)} minutes")]
    decisions: list[Decision] = [*failures]
    stranded = {part.update_id: part.hold for part in _unbegun(view) if part.hold}
    if stranded:
        decisions.append(PutBack(tuple(stranded)))
        view = _with(view, stranded)
    if not any(part.stage in UNENDED for part in view.parts):
        return [*decisions, Complete()]
    wave = _unbegun(view)
    if not wave and not any(part.stage is Stage.IN_FLIGHT or part.in_doubt for part in view.parts):
        wave = _next_wave(view, now)
        if wave:
            decisions.append(Cut(last_wave(view) + 1, _ids(wave)))
    starting = _as_many_as_nodes_bear(view, wave)
    if starting:
        decisions.append(Start(_ids(starting)))
    return decisions


def facts_of(view: View, now: datetime, wave: int | None = None) -> Facts:
    """Count what a strategy may know.

    Args:
        view: the rollout.
        now: the moment.
        wave: look at the rollout as a bot of this wave sees it: proven by earlier waves only. By default as the
            next wave would.
    """
    parts = [part for part in view.parts if part.stage is not Stage.LEFT_OUT]
    last = last_wave(view)
    before = last + 1 if wave is None else wave
    in_last = [part for part in parts if part.wave == last]
    ended = [part.ended_at for part in in_last if part.ended_at is not None]
    return Facts(
        total=len(parts),
        wave=last if wave is None else wave,
        due=sum(1 for part in parts if is_due(part)),
        in_flight=sum(1 for part in in_last if part.stage in UNENDED),
        updated=sum(1 for part in parts if part.stage is Stage.UPDATED),
        failed=sum(1 for part in parts if part.at_fault),
        proven=any(_proves(part) and part.wave < before for part in parts if part.wave is not None),
        wave_ended_at=max(ended, default=None),
        now=now,
    )


def _failures(view: View, now: datetime) -> Abort | list[Retry]:
    retries = []
    for part in view.parts:
        if part.stage is not Stage.FAILED and not part.turned_unhealthy:
            continue
        failure = Failure(part.error, part.transient and not part.turned_unhealthy)
        # After its update a bot is judged beside all others that were updated, not only those before it.
        facts = facts_of(view, now, None if part.turned_unhealthy else part.wave)
        answer = view.strategy.on_bot_failure(facts, part.bot_id, failure, part.attempt)
        if answer is OnFailure.ABORT:
            return Abort(_why_aborted(facts, part), quarantine=_condemned(view, now))
        if answer is OnFailure.RETRY:
            retries.append(Retry(part.update_id, now + RETRY_AFTER * max(1, part.attempt)))
    return retries


def _condemned(view: View, now: datetime) -> bool:
    """Whether the failures of bots on which the release ran would have ended the rollout by themselves."""
    ran = [part for part in view.parts if not (part.stage is Stage.FAILED and part.never_ran)]
    return len(ran) == len(view.parts) or isinstance(_failures(replace(view, parts=ran), now), Abort)


def _with(view: View, waiting: Mapping[str, Hold | None]) -> View:
    """Look at the rollout as it will be when these bots wait, in no wave."""
    parts = [
        replace(part, stage=Stage.WAITING, wave=None, hold=waiting[part.update_id])
        if part.update_id in waiting
        else part
        for part in view.parts
    ]
    return replace(view, parts=parts)


def _why_aborted(facts: Facts, part: Part) -> str:
    what = "turned unhealthy after its update" if part.turned_unhealthy else part.error or "could not be updated"
    if not facts.proven and part.never_ran:
        return f"the release could not be tried on the first bot: {what}"
    if not facts.proven:
        return f"the first bot to try this release failed: {what}"
    return f"{facts.failed} bots failed; the last: {what}"


def _stands_still(view: View, now: datetime) -> bool:
    flying = [part for part in view.parts if part.stage is Stage.IN_FLIGHT]
    signs = [part.progress_at for part in flying if part.progress_at is not None]
    if view.resumed_at is not None:
        signs.append(view.resumed_at)
    return bool(flying) and bool(signs) and max(signs) + STANDSTILL <= now


def _next_wave(view: View, now: datetime) -> list[Part]:
    due = [part for part in view.parts if is_due(part)]
    if not due:
        return []
    batch = view.strategy.next_batch(facts_of(view, now))
    if batch.canary:
        due = sorted((part for part in due if part.may_be_canary), key=lambda part: not part.canary_channel)
    return due[: batch.size]


def _as_many_as_nodes_bear(view: View, wave: Sequence[Part]) -> list[Part]:
    load = Counter(view.running)
    starting = []
    for part in wave:
        if load[part.node_id] < view.max_parallel:
            load[part.node_id] += 1
            starting.append(part)
    return starting


def _unbegun(view: View) -> list[Part]:
    return [part for part in view.parts if part.stage is Stage.WAITING and part.wave is not None]


def is_due(part: Part) -> bool:
    return part.stage is Stage.WAITING and part.wave is None and part.hold is None


def _proves(part: Part) -> bool:
    return part.stage is Stage.UPDATED and not part.turned_unhealthy


def last_wave(view: View) -> int:
    return max(
        (part.wave for part in view.parts if part.wave is not None and part.stage is not Stage.LEFT_OUT), default=0
    )


def _ids(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(part.update_id for part in parts)
