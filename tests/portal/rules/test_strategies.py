"""Strategies: batches, pauses, consequences of failures, and parameters."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.rules.strategies import (
    DEFAULTS,
    PARAMETERS,
    STRATEGIES,
    Batch,
    Facts,
    Failure,
    OnFailure,
    ParameterError,
    StrategyName,
    parse_parameters,
    strategy_for,
)

NOW = datetime(2026, 5, 4, 3, tzinfo=UTC)
UNHEALTHY = Failure("did not become healthy")
UNREACHABLE = Failure("the engine does not answer", transient=True)


def make_facts(
    *,
    total: int = 10,
    wave: int = 1,
    due: int = 10,
    updated: int = 1,
    failed: int = 0,
    proven: bool = True,
    wave_ended_at: datetime | None = None,
) -> Facts:
    return Facts(
        total=total,
        wave=wave,
        due=due,
        in_flight=0,
        updated=updated,
        failed=failed,
        proven=proven,
        wave_ended_at=wave_ended_at,
        now=NOW,
    )


def test_every_strategy_name_has_a_strategy_that_uses_known_parameters() -> None:
    assert list(STRATEGIES) == list(StrategyName)
    assert all(set(strategy.uses) <= set(PARAMETERS) for strategy in STRATEGIES.values())


def test_the_first_wave_has_only_canaries() -> None:
    strategy = strategy_for("rolling_wave", {"canary": 2})

    assert strategy.next_batch(make_facts(total=100, wave=0, updated=0, proven=False)) == Batch(2, canary=True)


@pytest.mark.parametrize(("total", "size"), [(1, 1), (3, 1), (4, 1), (8, 2), (11, 2), (120, 30)])
def test_later_waves_are_a_percentage_of_all_bots_and_at_least_one_bot(total: int, size: int) -> None:
    assert strategy_for("rolling_wave", {}).next_batch(make_facts(total=total)) == Batch(size)


def test_the_next_wave_waits_for_the_pause() -> None:
    strategy = strategy_for("rolling_wave", {"pause_seconds": 60})

    assert strategy.next_batch(make_facts(wave_ended_at=NOW - timedelta(seconds=59))).size == 0
    assert strategy.next_batch(make_facts(wave_ended_at=NOW - timedelta(seconds=60))).size == 2


def test_a_failed_canary_aborts() -> None:
    answer = strategy_for("rolling_wave", {}).on_bot_failure(make_facts(proven=False, failed=1), "bot", UNHEALTHY, 1)

    assert answer is OnFailure.ABORT


@pytest.mark.parametrize(("failed", "answer"), [(1, OnFailure.SKIP), (2, OnFailure.SKIP), (3, OnFailure.ABORT)])
def test_later_failures_abort_at_the_threshold(failed: int, answer: OnFailure) -> None:
    strategy = strategy_for("rolling_wave", {"failure_threshold": 3})

    assert strategy.on_bot_failure(make_facts(failed=failed), "bot", UNHEALTHY, 1) is answer


@pytest.mark.parametrize("name", ["single_bot", "immediate"])
def test_without_waves_a_failure_does_not_stop_other_bots(name: str) -> None:
    strategy = strategy_for(name, {})

    assert strategy.on_bot_failure(make_facts(proven=False, failed=50), "bot", UNHEALTHY, 1) is OnFailure.SKIP
    assert strategy.pause_duration() == timedelta()


def test_single_bot_takes_one_bot_and_immediate_takes_all_due_bots() -> None:
    assert strategy_for("single_bot", {}).next_batch(make_facts(due=7)) == Batch(1)
    assert strategy_for("immediate", {}).next_batch(make_facts(due=7)) == Batch(7)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_transient_failure_is_retried_and_never_aborts(name: str) -> None:
    strategy = strategy_for(name, {"max_retries": 2})
    bad = make_facts(proven=False, failed=99)

    answers = [strategy.on_bot_failure(bad, "bot", UNREACHABLE, attempt) for attempt in (1, 2, 3)]

    assert answers == [OnFailure.RETRY, OnFailure.RETRY, OnFailure.SKIP]


def test_an_unhealthy_container_is_never_retried() -> None:
    for name in STRATEGIES:
        answer = strategy_for(name, {"max_retries": 10}).on_bot_failure(make_facts(failed=1), "bot", UNHEALTHY, 1)
        assert answer is not OnFailure.RETRY


def test_parsed_parameters_are_complete_and_only_those_of_the_strategy() -> None:
    used = {name: DEFAULTS[name] for name in STRATEGIES["rolling_wave"].uses}
    assert parse_parameters("rolling_wave", {"percentage": "50"}) == used | {"percentage": 50}
    assert parse_parameters("immediate", {"percentage": "50"}) == {"max_retries": 2}


@pytest.mark.parametrize(
    ("name", "values", "field"),
    [
        ("rolling_wave", {"percentage": 0}, "percentage"),
        ("rolling_wave", {"percentage": 101}, "percentage"),
        ("rolling_wave", {"percentage": "a lot"}, "percentage"),
        ("rolling_wave", {"percentage": None}, "percentage"),
        ("rolling_wave", {"canary": 0}, "canary"),
        ("rolling_wave", {"canary": 1.5}, "canary"),
        ("rolling_wave", {"canary": True}, "canary"),
        ("rolling_wave", {"pause_seconds": -1}, "pause_seconds"),
        ("rolling_wave", {"failure_threshold": 0}, "failure_threshold"),
        ("immediate", {"max_retries": -1}, "max_retries"),
        ("single_bot", {"speed": 1}, "speed"),
        ("teleport", {}, "strategy"),
    ],
)
def test_an_invalid_parameter_is_refused_by_name(name: str, values: dict[str, object], field: str) -> None:
    with pytest.raises(ParameterError, match=f"^{field.replace('_', ' ')} ") as refused:
        parse_parameters(name, values)
    assert refused.value.field == field


@given(
    percentage=st.integers(1, 100),
    total=st.integers(1, 2000),
)
def test_a_wave_never_exceeds_its_percentage(percentage: int, total: int) -> None:
    size = strategy_for("rolling_wave", {"percentage": percentage}).next_batch(make_facts(total=total)).size

    assert size >= 1
    assert size == 1 or size * 100 <= total * percentage
