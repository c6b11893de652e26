"""The planner, by examples and by a state machine of a rollout with random events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portal.rules.planner import (
    STALL_AFTER,
    Abort,
    Complete,
    Decision,
    Pause,
    Requeue,
    Retry,
    RolloutSnapshot,
    Start,
    StartWave,
    plan,
)
from portal.rules.remaining import estimate_waves_left, find_next_wave, list_wait_reasons
from portal.rules.rollout_bots import BlockReason, Stage, Target
from portal.rules.strategies import STRATEGIES, StrategyName, strategy_for

NOW = datetime(2026, 5, 4, 3, tzinfo=UTC)
PAUSE = timedelta(seconds=60)
WITH_CANARY = {StrategyName.ROLLING_WAVE}
"""Strategies that start only canaries until one has proven the release."""
ABORTING = {StrategyName.ROLLING_WAVE}
"""Strategies that abort a rollout because of failures."""


def make_target(number: int, **values: Any) -> Target:
    fields: dict[str, Any] = {"node_id": "node", "stage": Stage.WAITING, "may_be_canary": True} | values
    if fields["stage"] not in {Stage.WAITING, Stage.IN_FLIGHT}:
        fields.setdefault("ended_at", NOW - timedelta(hours=1))
    return Target(update_id=f"u{number}", bot_id=f"b{number}", **fields)


def make_snapshot(*targets: Target, strategy: str = "rolling_wave", **values: Any) -> RolloutSnapshot:
    parameters = values.pop("parameters", {})
    return RolloutSnapshot.from_targets(targets, strategy=strategy_for(strategy, parameters), **values)


def make_waiting(numbers: range, **values: Any) -> list[Target]:
    return [make_target(number, **values) for number in numbers]


def with_proven_canary(*others: Target) -> list[Target]:
    return [make_target(0, stage=Stage.UPDATED, wave=1), *others]


def test_the_canary_starts_alone() -> None:
    assert plan(make_snapshot(*make_waiting(range(5))), NOW) == [StartWave(1, ("u0",)), Start(("u0",))]


def test_the_canary_may_be_a_canary_and_the_canary_channel_comes_first() -> None:
    targets = [
        make_target(0, may_be_canary=False, canary_channel=True),
        make_target(1),
        make_target(2, canary_channel=True),
    ]

    assert plan(make_snapshot(*targets), NOW)[0] == StartWave(1, ("u2",))


def test_without_a_possible_canary_nothing_starts_and_the_wait_reason_says_so() -> None:
    targets = make_waiting(range(3), may_be_canary=False)
    snapshot = make_snapshot(*targets)

    assert plan(snapshot, NOW) == []
    assert "can be the canary" in list_wait_reasons(snapshot, NOW)[0]


def test_other_bots_wait_until_the_canary_is_healthy() -> None:
    assert (
        plan(
            make_snapshot(make_target(0, stage=Stage.IN_FLIGHT, wave=1, progress_at=NOW), *make_waiting(range(1, 5))),
            NOW,
        )
        == []
    )


def test_the_next_wave_is_a_percentage_of_all_bots() -> None:
    decisions = plan(make_snapshot(*with_proven_canary(*make_waiting(range(1, 12)))), NOW)

    assert decisions[0] == StartWave(2, ("u1", "u2", "u3"))


def test_no_wave_starts_during_the_pause() -> None:
    targets = [make_target(0, stage=Stage.UPDATED, wave=1, ended_at=NOW - PAUSE / 2), *make_waiting(range(1, 5))]

    assert plan(make_snapshot(*targets), NOW) == []
    assert plan(make_snapshot(*targets), NOW + PAUSE / 2)[0] == StartWave(2, ("u1",))


def test_parallel_updates_per_node_are_limited_over_all_rollouts() -> None:
    targets = [*make_waiting(range(4), wave=2), *make_waiting(range(4, 6), wave=2, node_id="other")]

    decisions = plan(make_snapshot(*targets, max_parallel=2, running={"node": 1}), NOW)

    assert decisions == [Start(("u0", "u4", "u5"))]


def test_a_failed_canary_aborts_with_its_error() -> None:
    targets = [
        make_target(0, stage=Stage.FAILED, wave=1, attempt=1, error="health answered 503"),
        *make_waiting(range(1, 5)),
    ]

    decisions = plan(make_snapshot(*targets), NOW)

    assert decisions == [Abort("the first bot to try this release failed: health answered 503", quarantine=True)]


def test_a_failure_before_the_release_ran_aborts_without_quarantine() -> None:
    no_snapshot = make_target(0, stage=Stage.FAILED, wave=1, attempt=1, error="no snapshot", never_ran=True)

    decisions = plan(make_snapshot(no_snapshot, *make_waiting(range(1, 5))), NOW)

    assert decisions == [Abort("the release could not be tried on the first bot: no snapshot", quarantine=False)]


def test_quarantine_counts_only_failures_after_the_release_ran() -> None:
    bad = make_target(1, stage=Stage.FAILED, wave=2, attempt=1, error="unhealthy")
    refused = [
        make_target(number, stage=Stage.FAILED, wave=2, attempt=1, error="may not run here", never_ran=True)
        for number in (2, 3)
    ]
    worse = [make_target(number, stage=Stage.FAILED, wave=2, attempt=1, error="unhealthy") for number in (4, 5)]

    assert plan(make_snapshot(*with_proven_canary(bad, *refused, make_target(9))), NOW) == [
        Abort("3 bots failed; the last: unhealthy", quarantine=False)
    ]
    assert plan(make_snapshot(*with_proven_canary(bad, *refused, *worse, make_target(9))), NOW) == [
        Abort("5 bots failed; the last: unhealthy", quarantine=True)
    ]


def test_failures_abort_at_the_threshold_even_in_a_paused_rollout() -> None:
    failed = [make_target(number, stage=Stage.FAILED, wave=2, error="no") for number in (1, 2, 3)]

    two_failures = plan(make_snapshot(*with_proven_canary(*failed[:2], make_target(9))), NOW)

    assert not any(isinstance(decision, Abort) for decision in two_failures)
    assert plan(make_snapshot(*with_proven_canary(*failed, make_target(9)), paused=True), NOW) == [
        Abort("3 bots failed; the last: no", quarantine=True)
    ]


def test_a_canary_that_turns_unhealthy_in_the_pause_aborts() -> None:
    targets = [make_target(0, stage=Stage.UPDATED, wave=1, turned_unhealthy=True), *make_waiting(range(1, 5))]

    assert plan(make_snapshot(*targets), NOW) == [
        Abort("the first bot to try this release failed: turned unhealthy after its update", quarantine=True)
    ]


def test_no_wave_starts_while_an_updated_bot_is_in_doubt_and_the_wait_reason_says_so() -> None:
    doubtful = make_target(0, stage=Stage.UPDATED, wave=1, in_doubt=True)

    targets = [doubtful, *make_waiting(range(1, 5))]
    snapshot = make_snapshot(*targets)

    assert plan(snapshot, NOW) == []
    assert "to recover" in list_wait_reasons(snapshot, NOW)[0]
    assert plan(make_snapshot(doubtful), NOW) == [Complete()]


def test_an_operator_can_skip_the_pause_before_the_next_wave() -> None:
    targets = [make_target(0, stage=Stage.UPDATED, wave=1, ended_at=NOW), *make_waiting(range(1, 5))]
    moment = NOW + PAUSE / 2

    assert plan(make_snapshot(*targets), moment) == []
    assert find_next_wave(make_snapshot(*targets), moment) == NOW + PAUSE
    assert list_wait_reasons(make_snapshot(*targets), moment) == []
    skipped = make_snapshot(*targets, pause_skipped_at=moment)
    assert plan(skipped, moment)[0] == StartWave(2, ("u1",))
    assert find_next_wave(skipped, moment) is None
    # The pause after a later wave stays.
    earlier = make_snapshot(*targets, pause_skipped_at=NOW - PAUSE)
    assert plan(earlier, moment) == []


def test_a_bot_that_turns_unhealthy_later_counts_against_the_threshold() -> None:
    def make_unhealthy(number: int) -> list[Target]:
        return [
            make_target(index, stage=Stage.UPDATED, wave=2, turned_unhealthy=True) for index in range(1, number + 1)
        ]

    assert isinstance(plan(make_snapshot(*with_proven_canary(*make_unhealthy(2), make_target(9))), NOW)[0], StartWave)
    assert isinstance(plan(make_snapshot(*with_proven_canary(*make_unhealthy(3), make_target(9))), NOW)[0], Abort)


def test_a_transient_failure_is_retried_after_a_wait() -> None:
    failed = make_target(0, stage=Stage.FAILED, wave=1, attempt=1, transient=True)

    assert plan(make_snapshot(failed), NOW) == [Retry("u0", NOW + timedelta(minutes=4))]


def test_a_bot_that_needs_attention_is_not_retried_and_not_counted_if_the_engine_was_the_cause() -> None:
    failed = make_target(0, stage=Stage.FAILED, wave=1, attempt=1, transient=True, needs_attention=True)

    assert plan(make_snapshot(failed), NOW) == [Complete()]
    assert plan(make_snapshot(failed, *make_waiting(range(1, 5))), NOW)[0] == StartWave(2, ("u1",))


def test_after_a_transient_failure_of_the_canary_another_bot_is_the_canary() -> None:
    failed = make_target(0, stage=Stage.FAILED, wave=1, attempt=3, transient=True)

    assert plan(make_snapshot(failed, *make_waiting(range(1, 5))), NOW)[0] == StartWave(2, ("u1",))


def test_a_bot_whose_window_has_closed_is_requeued_and_its_wave_continues() -> None:
    targets = with_proven_canary(make_target(1, wave=2, block_reason=BlockReason.WINDOW), make_target(2, wave=2))

    assert plan(make_snapshot(*targets), NOW) == [Requeue(("u1",)), Start(("u2",))]


def test_a_paused_rollout_starts_nothing_and_does_not_end() -> None:
    assert plan(make_snapshot(*make_waiting(range(3)), paused=True), NOW) == []
    assert plan(make_snapshot(make_target(0, stage=Stage.UPDATED, wave=1), paused=True), NOW) == []


def test_a_stalled_rollout_is_paused_until_it_is_resumed() -> None:
    stuck = make_target(0, stage=Stage.IN_FLIGHT, wave=1, progress_at=NOW - STALL_AFTER)

    assert plan(make_snapshot(stuck), NOW) == [Pause("no step finished for 10 minutes")]
    assert plan(make_snapshot(stuck, resumed_at=NOW - STALL_AFTER / 2), NOW) == []
    assert plan(make_snapshot(replace(stuck, progress_at=NOW - STALL_AFTER / 2)), NOW) == []


def test_a_rollout_without_open_bots_is_completed() -> None:
    targets = with_proven_canary(make_target(1, stage=Stage.FAILED, wave=2), make_target(2, stage=Stage.SKIPPED))

    assert plan(make_snapshot(*targets), NOW) == [Complete()]


def test_single_bot_starts_one_bot_at_a_time() -> None:
    assert plan(make_snapshot(*make_waiting(range(3), may_be_canary=False), strategy="single_bot"), NOW)[
        0
    ] == StartWave(1, ("u0",))


def test_immediate_starts_all_due_bots() -> None:
    targets = [*make_waiting(range(3), may_be_canary=False), make_target(3, block_reason=BlockReason.WINDOW)]

    assert plan(make_snapshot(*targets, strategy="immediate", max_parallel=9), NOW)[0] == StartWave(
        1, ("u0", "u1", "u2")
    )


def test_waves_left_are_estimated_from_the_strategy() -> None:
    assert estimate_waves_left(make_snapshot(*make_waiting(range(120))), NOW) == 5
    assert (
        estimate_waves_left(
            make_snapshot(make_target(0, stage=Stage.IN_FLIGHT, wave=1), *make_waiting(range(1, 120))), NOW
        )
        == 4
    )
    assert estimate_waves_left(make_snapshot(*make_waiting(range(9)), strategy="immediate"), NOW) == 1
    assert estimate_waves_left(make_snapshot(make_target(0, stage=Stage.UPDATED, wave=1)), NOW) == 0


class RolloutMachine(RuleBasedStateMachine):
    """A rollout with random events between two calls of the planner."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Target] = []
        self.started: set[str] = set()
        self.now = NOW
        self.ended: Decision | None = None
        self.paused = False

    @initialize(
        number=st.integers(1, 12),
        nodes=st.integers(1, 3),
        strategy=st.sampled_from(list(STRATEGIES)),
        max_parallel=st.integers(1, 3),
        canary=st.integers(1, 2),
        threshold=st.integers(1, 3),
        percentage=st.integers(1, 100),
    )
    def start(
        self,
        *,
        number: int,
        nodes: int,
        strategy: str,
        max_parallel: int,
        canary: int,
        threshold: int,
        percentage: int,
    ) -> None:
        self.targets = [
            make_target(index, node_id=f"n{index % nodes}", may_be_canary=index % 4 != 1) for index in range(number)
        ]
        self.name, self.max_parallel, self.canaries, self.threshold = strategy, max_parallel, canary, threshold
        parameters = {
            "canary": canary,
            "failure_threshold": threshold,
            "percentage": percentage,
            "pause_seconds": 60,
            "max_retries": 1,
        }
        self.strategy = strategy_for(strategy, parameters)

    def snapshot(self) -> RolloutSnapshot:
        running = Counter(target.node_id for target in self.targets if target.stage is Stage.IN_FLIGHT)
        return RolloutSnapshot.from_targets(
            self.targets,
            strategy=self.strategy,
            paused=self.paused,
            max_parallel=self.max_parallel,
            running=running,
        )

    def change(self, update_ids: Sequence[str], **values: Any) -> None:
        self.targets = [
            replace(target, **values) if target.update_id in update_ids else target for target in self.targets
        ]

    def apply(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            match decision:
                case StartWave(wave, ids):
                    self.check_wave(wave, ids)
                    self.change(ids, wave=wave)
                case Requeue(ids):
                    self.change(ids, wave=None)
                case Retry(update_id, _):
                    self.change(
                        [update_id], stage=Stage.WAITING, wave=None, block_reason=BlockReason.RETRY, ended_at=None
                    )
                case Start(ids):
                    self.started = set(ids)
                case Pause(_):
                    self.paused = True
                case Abort() | Complete():
                    self.ended = decision

    def check_wave(self, wave: int, ids: Sequence[str]) -> None:
        chosen = [target for target in self.targets if target.update_id in ids]
        assert all(
            target.stage is Stage.WAITING and target.block_reason is None and target.wave is None for target in chosen
        )
        assert not any(target.stage is Stage.IN_FLIGHT for target in self.targets)
        assert wave == 1 + max(
            (target.wave or 0 for target in self.targets if target.stage is not Stage.SKIPPED), default=0
        )
        if self.name in WITH_CANARY and not any(target.stage is Stage.UPDATED for target in self.targets):
            assert len(chosen) <= self.canaries
            assert all(target.may_be_canary for target in chosen)

    @precondition(lambda self: self.ended is None)
    @rule()
    def plan_twice(self) -> None:
        self.started = set()
        self.apply(plan(self.snapshot(), self.now))
        if self.ended is None:
            before = list(self.targets)
            again = plan(self.snapshot(), self.now)
            self.apply(again)
            assert self.targets == before, again
            assert all(isinstance(decision, Start) for decision in again)

    @precondition(lambda self: self.started and self.ended is None)
    @rule(data=st.data())
    def worker_starts(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.started)))
        self.started.discard(chosen)
        self.change([chosen], stage=Stage.IN_FLIGHT, progress_at=self.now, attempt=1 + self.count_attempts(chosen))

    def count_attempts(self, update_id: str) -> int:
        return next(target.attempt for target in self.targets if target.update_id == update_id)

    @precondition(lambda self: any(target.stage is Stage.IN_FLIGHT for target in self.targets))
    @rule(data=st.data(), outcome=st.sampled_from(["good", "good", "good", "bad", "transient", "skipped"]))
    def worker_ends(self, data: st.DataObject, outcome: str) -> None:
        in_flight = [target.update_id for target in self.targets if target.stage is Stage.IN_FLIGHT]
        stage = {"good": Stage.UPDATED, "skipped": Stage.SKIPPED}.get(outcome, Stage.FAILED)
        transient = outcome == "transient"
        self.change([data.draw(st.sampled_from(in_flight))], stage=stage, transient=transient, ended_at=self.now)

    @precondition(lambda self: self.ended is None)
    @rule(data=st.data(), block_reason=st.sampled_from([None, None, BlockReason.WINDOW, BlockReason.NODE]))
    def bot_is_blocked_or_unblocked(self, data: st.DataObject, block_reason: BlockReason | None) -> None:
        chosen = data.draw(st.sampled_from([target.update_id for target in self.targets]))
        if chosen not in self.started:
            self.change([chosen], block_reason=block_reason)

    @rule(seconds=st.sampled_from([1, 60, 300]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(paused=st.booleans())
    def operator_pauses_or_resumes(self, paused: bool) -> None:
        self.started = set()
        self.paused = paused

    @invariant()
    def no_node_exceeds_its_limit(self) -> None:
        load = Counter(
            target.node_id
            for target in self.targets
            if target.stage is Stage.IN_FLIGHT or target.update_id in self.started
        )
        assert all(number <= self.max_parallel for number in load.values())

    @invariant()
    def unproven_release_reaches_only_canaries(self) -> None:
        failed_or_in_flight = [
            target
            for target in self.targets
            if target.stage in {Stage.IN_FLIGHT, Stage.FAILED} and not target.transient
        ]
        if getattr(self, "name", "") in WITH_CANARY and not any(
            target.stage is Stage.UPDATED for target in self.targets
        ):
            assert len(failed_or_in_flight) <= self.canaries

    @invariant()
    def rollout_ends_only_for_a_reason(self) -> None:
        faults = sum(target.stage is Stage.FAILED and not target.transient for target in self.targets)
        if isinstance(self.ended, Abort):
            assert self.name in ABORTING
            assert faults
        if isinstance(self.ended, Complete):
            assert not any(target.stage in {Stage.WAITING, Stage.IN_FLIGHT} for target in self.targets)


RolloutMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRolloutMachine = pytest.mark.slow(RolloutMachine.TestCase)
