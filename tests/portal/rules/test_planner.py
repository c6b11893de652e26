"""The planner, by examples and by a simulated fleet to which anything may happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portal.rules.planner import (
    STALL_AFTER,
    Abort,
    BlockReason,
    Complete,
    Decision,
    Pause,
    Requeue,
    Retry,
    RolloutSnapshot,
    Stage,
    Start,
    StartWave,
    Target,
    plan,
)
from portal.rules.remaining import estimate_waves_left, list_wait_reasons
from portal.rules.strategies import strategy_for

NOW = datetime(2026, 5, 4, 3, tzinfo=UTC)
PAUSE = timedelta(seconds=60)


def part(number: int, **values: Any) -> Target:
    fields: dict[str, Any] = {"node_id": "node", "stage": Stage.WAITING, "may_be_canary": True} | values
    if fields["stage"] not in {Stage.WAITING, Stage.IN_FLIGHT}:
        fields.setdefault("ended_at", NOW - timedelta(hours=1))
    return Target(update_id=f"u{number}", bot_id=f"b{number}", **fields)


def view(*targets: Target, strategy: str = "rolling_wave", **values: Any) -> RolloutSnapshot:
    parameters = values.pop("parameters", {})
    return RolloutSnapshot(strategy=strategy_for(strategy, parameters), targets=targets, **values)


def waiting(numbers: range, **values: Any) -> list[Target]:
    return [part(number, **values) for number in numbers]


def proven(*others: Target) -> list[Target]:
    return [part(0, stage=Stage.UPDATED, wave=1), *others]


def test_the_canary_is_cut_and_started_alone() -> None:
    assert plan(view(*waiting(range(5))), NOW) == [StartWave(1, ("u0",)), Start(("u0",))]


def test_the_canary_is_healthy_and_protected_and_of_the_canary_channel_if_there_is_one() -> None:
    targets = [part(0, may_be_canary=False, canary_channel=True), part(1), part(2, canary_channel=True)]

    assert plan(view(*targets), NOW)[0] == StartWave(1, ("u2",))


def test_nobody_goes_first_when_no_bot_may_and_that_is_said() -> None:
    shown = view(*waiting(range(3), may_be_canary=False))

    assert plan(shown, NOW) == []
    assert "may go first" in list_wait_reasons(shown, NOW)[0]


def test_others_wait_until_the_canary_is_proven() -> None:
    assert plan(view(part(0, stage=Stage.IN_FLIGHT, wave=1, progress_at=NOW), *waiting(range(1, 5))), NOW) == []


def test_the_next_wave_is_a_share_of_the_whole() -> None:
    decided = plan(view(*proven(*waiting(range(1, 12)))), NOW)

    assert decided[0] == StartWave(2, ("u1", "u2", "u3"))


def test_no_wave_is_cut_before_the_pause_is_over() -> None:
    targets = [part(0, stage=Stage.UPDATED, wave=1, ended_at=NOW - PAUSE / 2), *waiting(range(1, 5))]

    assert plan(view(*targets), NOW) == []
    assert plan(view(*targets), NOW + PAUSE / 2)[0] == StartWave(2, ("u1",))


def test_a_node_bears_only_so_many_updates_at_once_from_all_rollouts() -> None:
    targets = [*waiting(range(4), wave=2), *waiting(range(4, 6), wave=2, node_id="other")]

    decided = plan(view(*targets, max_parallel=2, running={"node": 1}), NOW)

    assert decided == [Start(("u0", "u4", "u5"))]


def test_a_failed_canary_aborts_and_says_why() -> None:
    targets = [part(0, stage=Stage.FAILED, wave=1, attempt=1, error="health answered 503"), *waiting(range(1, 5))]

    decided = plan(view(*targets), NOW)

    assert decided == [Abort("the first bot to try this release failed: health answered 503", quarantine=True)]


def test_a_bot_on_which_the_release_never_ran_condemns_no_release() -> None:
    no_snapshot = part(0, stage=Stage.FAILED, wave=1, attempt=1, error="no snapshot", never_ran=True)

    decided = plan(view(no_snapshot, *waiting(range(1, 5))), NOW)

    assert decided == [Abort("the release could not be tried on the first bot: no snapshot", quarantine=False)]


def test_bots_on_which_the_release_never_ran_end_a_rollout_but_do_not_condemn_with_one_on_which_it_did() -> None:
    bad = part(1, stage=Stage.FAILED, wave=2, attempt=1, error="unhealthy")
    refused = [
        part(number, stage=Stage.FAILED, wave=2, attempt=1, error="may not run here", never_ran=True)
        for number in (2, 3)
    ]
    worse = [part(number, stage=Stage.FAILED, wave=2, attempt=1, error="unhealthy") for number in (4, 5)]

    assert plan(view(*proven(bad, *refused, part(9))), NOW) == [
        Abort("3 bots failed; the last: unhealthy", quarantine=False)
    ]
    assert plan(view(*proven(bad, *refused, *worse, part(9))), NOW) == [
        Abort("5 bots failed; the last: unhealthy", quarantine=True)
    ]


def test_failures_abort_at_the_threshold_even_while_it_is_paused() -> None:
    failed = [part(number, stage=Stage.FAILED, wave=2, error="no") for number in (1, 2, 3)]

    assert not [one for one in plan(view(*proven(*failed[:2], part(9))), NOW) if isinstance(one, Abort)]
    assert plan(view(*proven(*failed, part(9)), paused=True), NOW) == [
        Abort("3 bots failed; the last: no", quarantine=True)
    ]


def test_a_canary_that_turns_unhealthy_in_the_pause_aborts() -> None:
    targets = [part(0, stage=Stage.UPDATED, wave=1, turned_unhealthy=True), *waiting(range(1, 5))]

    assert plan(view(*targets), NOW) == [
        Abort("the first bot to try this release failed: turned unhealthy after its update", quarantine=True)
    ]


def test_no_wave_is_cut_while_an_updated_bot_is_in_doubt_and_that_is_said() -> None:
    doubtful = part(0, stage=Stage.UPDATED, wave=1, in_doubt=True)

    shown = view(doubtful, *waiting(range(1, 5)))

    assert plan(shown, NOW) == []
    assert "comes back" in list_wait_reasons(shown, NOW)[0]
    assert plan(view(doubtful), NOW) == [Complete()]


def test_a_bot_that_turns_unhealthy_later_counts_against_the_threshold() -> None:
    def ill(number: int) -> list[Target]:
        return [part(one, stage=Stage.UPDATED, wave=2, turned_unhealthy=True) for one in range(1, number + 1)]

    assert isinstance(plan(view(*proven(*ill(2), part(9))), NOW)[0], StartWave)
    assert isinstance(plan(view(*proven(*ill(3), part(9))), NOW)[0], Abort)


def test_a_failure_that_is_not_the_releases_fault_is_tried_again_after_a_wait() -> None:
    failed = part(0, stage=Stage.FAILED, wave=1, attempt=1, transient=True)

    assert plan(view(failed), NOW) == [Retry("u0", NOW + timedelta(minutes=1))]


def test_a_canary_that_could_not_be_tried_is_no_proof_so_another_goes_first() -> None:
    failed = part(0, stage=Stage.FAILED, wave=1, attempt=3, transient=True)

    assert plan(view(failed, *waiting(range(1, 5))), NOW)[0] == StartWave(2, ("u1",))


def test_a_bot_whose_hour_has_passed_goes_back_and_the_rest_of_its_wave_goes_on() -> None:
    targets = proven(part(1, wave=2, block_reason=BlockReason.WINDOW), part(2, wave=2))

    assert plan(view(*targets), NOW) == [Requeue(("u1",)), Start(("u2",))]


def test_a_paused_rollout_starts_nothing_and_does_not_end() -> None:
    assert plan(view(*waiting(range(3)), paused=True), NOW) == []
    assert plan(view(part(0, stage=Stage.UPDATED, wave=1), paused=True), NOW) == []


def test_a_standstill_pauses_until_somebody_resumes() -> None:
    stuck = part(0, stage=Stage.IN_FLIGHT, wave=1, progress_at=NOW - STALL_AFTER)

    assert plan(view(stuck), NOW) == [Pause("no step finished for 10 minutes")]
    assert plan(view(stuck, resumed_at=NOW - STALL_AFTER / 2), NOW) == []
    assert plan(view(replace(stuck, progress_at=NOW - STALL_AFTER / 2)), NOW) == []


def test_it_is_complete_when_no_bot_is_left() -> None:
    targets = proven(part(1, stage=Stage.FAILED, wave=2), part(2, stage=Stage.LEFT_OUT))

    assert plan(view(*targets), NOW) == [Complete()]


def test_single_bot_goes_through_them_one_by_one() -> None:
    assert plan(view(*waiting(range(3), may_be_canary=False), strategy="single_bot"), NOW)[0] == StartWave(1, ("u0",))


def test_immediate_takes_everybody_who_is_due() -> None:
    targets = [*waiting(range(3), may_be_canary=False), part(3, block_reason=BlockReason.WINDOW)]

    assert plan(view(*targets, strategy="immediate", max_parallel=9), NOW)[0] == StartWave(1, ("u0", "u1", "u2"))


def test_waves_to_come_are_estimated_from_the_strategy() -> None:
    assert estimate_waves_left(view(*waiting(range(120))), NOW) == 5
    assert estimate_waves_left(view(part(0, stage=Stage.IN_FLIGHT, wave=1), *waiting(range(1, 120))), NOW) == 4
    assert estimate_waves_left(view(*waiting(range(9)), strategy="immediate"), NOW) == 1
    assert estimate_waves_left(view(part(0, stage=Stage.UPDATED, wave=1)), NOW) == 0


class Fleet(RuleBasedStateMachine):
    """Bots to which anything may happen between two looks of the planner."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Target] = []
        self.handed: set[str] = set()
        self.now = NOW
        self.ended: Decision | None = None
        self.paused = False

    @initialize(
        number=st.integers(1, 12),
        nodes=st.integers(1, 3),
        strategy=st.sampled_from(["rolling_wave", "single_bot", "immediate"]),
        max_parallel=st.integers(1, 3),
        canary=st.integers(1, 2),
        threshold=st.integers(1, 3),
        percentage=st.integers(1, 100),
    )
    def begin(
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
        self.targets = [part(one, node_id=f"n{one % nodes}", may_be_canary=one % 4 != 1) for one in range(number)]
        self.name, self.max_parallel, self.canaries, self.threshold = strategy, max_parallel, canary, threshold
        parameters = {
            "canary": canary,
            "failure_threshold": threshold,
            "percentage": percentage,
            "pause_seconds": 60,
            "max_retries": 1,
        }
        self.strategy = strategy_for(strategy, parameters)

    def view(self) -> RolloutSnapshot:
        running = Counter(one.node_id for one in self.targets if one.stage is Stage.IN_FLIGHT)
        return RolloutSnapshot(
            strategy=self.strategy,
            targets=self.targets,
            paused=self.paused,
            max_parallel=self.max_parallel,
            running=running,
        )

    def change(self, update_ids: Sequence[str], **values: Any) -> None:
        self.targets = [replace(one, **values) if one.update_id in update_ids else one for one in self.targets]

    def carry_out(self, decided: Sequence[Decision]) -> None:
        for decision in decided:
            match decision:
                case StartWave(wave, ids):
                    self.check_cut(wave, ids)
                    self.change(ids, wave=wave)
                case Requeue(ids):
                    self.change(ids, wave=None)
                case Retry(update_id, _):
                    self.change(
                        [update_id], stage=Stage.WAITING, wave=None, block_reason=BlockReason.RETRY, ended_at=None
                    )
                case Start(ids):
                    self.handed = set(ids)
                case Pause(_):
                    self.paused = True
                case Abort() | Complete():
                    self.ended = decision

    def check_cut(self, wave: int, ids: Sequence[str]) -> None:
        chosen = [one for one in self.targets if one.update_id in ids]
        assert all(one.stage is Stage.WAITING and one.block_reason is None and one.wave is None for one in chosen)
        assert not any(one.stage is Stage.IN_FLIGHT for one in self.targets)
        assert wave == 1 + max((one.wave or 0 for one in self.targets if one.stage is not Stage.LEFT_OUT), default=0)
        if self.name == "rolling_wave" and not any(one.stage is Stage.UPDATED for one in self.targets):
            assert len(chosen) <= self.canaries
            assert all(one.may_be_canary for one in chosen)

    @precondition(lambda self: self.ended is None)
    @rule()
    def look(self) -> None:
        self.handed = set()
        self.carry_out(plan(self.view(), self.now))
        if self.ended is None:
            before = list(self.targets)
            again = plan(self.view(), self.now)
            self.carry_out(again)
            assert self.targets == before, again
            assert all(isinstance(decision, Start) for decision in again)

    @precondition(lambda self: self.handed and self.ended is None)
    @rule(data=st.data())
    def a_worker_begins(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.handed)))
        self.handed.discard(chosen)
        self.change([chosen], stage=Stage.IN_FLIGHT, progress_at=self.now, attempt=1 + self.attempts(chosen))

    def attempts(self, update_id: str) -> int:
        return next(one.attempt for one in self.targets if one.update_id == update_id)

    @precondition(lambda self: any(one.stage is Stage.IN_FLIGHT for one in self.targets))
    @rule(data=st.data(), outcome=st.sampled_from(["good", "good", "good", "bad", "transient", "left out"]))
    def a_worker_ends(self, data: st.DataObject, outcome: str) -> None:
        flying = [one.update_id for one in self.targets if one.stage is Stage.IN_FLIGHT]
        stage = {"good": Stage.UPDATED, "left out": Stage.LEFT_OUT}.get(outcome, Stage.FAILED)
        transient = outcome == "transient"
        self.change([data.draw(st.sampled_from(flying))], stage=stage, transient=transient, ended_at=self.now)

    @precondition(lambda self: self.ended is None)
    @rule(data=st.data(), block_reason=st.sampled_from([None, None, BlockReason.WINDOW, BlockReason.NODE]))
    def a_bot_becomes_held_or_due(self, data: st.DataObject, block_reason: BlockReason | None) -> None:
        chosen = data.draw(st.sampled_from([one.update_id for one in self.targets]))
        if chosen not in self.handed:
            self.change([chosen], block_reason=block_reason)

    @rule(seconds=st.sampled_from([1, 60, 300]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(paused=st.booleans())
    def somebody_pauses_or_resumes(self, paused: bool) -> None:
        self.handed = set()
        self.paused = paused

    @invariant()
    def no_node_bears_too_much(self) -> None:
        load = Counter(
            one.node_id for one in self.targets if one.stage is Stage.IN_FLIGHT or one.update_id in self.handed
        )
        assert all(number <= self.max_parallel for number in load.values())

    @invariant()
    def an_unproven_release_reaches_only_canaries(self) -> None:
        tried = [one for one in self.targets if one.stage in {Stage.IN_FLIGHT, Stage.FAILED} and not one.transient]
        if getattr(self, "name", "") == "rolling_wave" and not any(
            one.stage is Stage.UPDATED for one in self.targets
        ):
            assert len(tried) <= self.canaries

    @invariant()
    def a_rollout_ends_only_for_a_reason(self) -> None:
        faults = sum(one.stage is Stage.FAILED and not one.transient for one in self.targets)
        if isinstance(self.ended, Abort):
            assert self.name == "rolling_wave"
            assert faults
        if isinstance(self.ended, Complete):
            assert not any(one.stage in {Stage.WAITING, Stage.IN_FLIGHT} for one in self.targets)


Fleet.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestFleet = Fleet.TestCase
