"""Forecast: waves, windows, the likely end, and obstacles."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.rules.forecast import NO_CANARY, NO_WAVE, Forecast, ForecastBot, forecast
from portal.rules.strategies import DEFAULTS, STRATEGIES, Batch, Facts, SingleBot, strategy_for
from portal.rules.windows import is_open

NOW = datetime(2026, 5, 4, 3, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

FLEETS = st.lists(
    st.builds(
        ForecastBot, st.sampled_from(["one", "two"]), st.integers(0, 23), st.booleans(), canary_channel=st.booleans()
    ),
    max_size=30,
)


FIRST_WAVE = Facts(
    total=30, wave=0, due=30, in_flight=0, updated=0, failed=0, proven=False, wave_ended_at=None, now=NOW
)


def make_bots(number: int, hour: int = 3, *, may_be_canary: bool = True) -> list[ForecastBot]:
    return [ForecastBot("node", hour, may_be_canary)] * number


def run_forecast(bots: list[ForecastBot], strategy: str = "rolling_wave", *, ignore_windows: bool = True) -> Forecast:
    return forecast(
        strategy_for(strategy, {}),
        bots,
        ignore_windows=ignore_windows,
        max_parallel=2,
        per_bot=MINUTE,
        now=NOW,
    )


def test_waves_and_the_likely_end_follow_the_strategy() -> None:
    result = run_forecast(make_bots(9))

    assert [wave.bots for wave in result.waves] == [1, 2, 2, 2, 2]
    assert result.ends_at == NOW + 5 * MINUTE + 4 * MINUTE, "five updates in sequence and four pauses"


def test_bots_wait_for_their_window() -> None:
    result = run_forecast([*make_bots(2), *make_bots(3, hour=5)], ignore_windows=False)

    assert result.waiting == {5: 3}
    assert result.waves[2].starts_at == NOW.replace(hour=5, minute=0)


def test_bots_that_cannot_start_before_the_window_closes_wait_for_the_next_day() -> None:
    result = run_forecast(make_bots(150), "immediate", ignore_windows=False)

    assert [wave.bots for wave in result.waves] == [100, 50]
    assert result.waves[1].starts_at == NOW.replace(day=5, minute=0)


def test_a_rollout_without_a_possible_canary_has_an_obstacle() -> None:
    result = run_forecast(make_bots(3, may_be_canary=False))

    assert (result.waves, result.ends_at, result.obstacle) == ((), None, NO_CANARY)


@pytest.mark.parametrize("ignore_windows", [True, False])
def test_the_forecast_ends_where_the_strategy_starts_no_bot(ignore_windows: bool) -> None:
    class Hesitant(SingleBot):
        def next_batch(self, facts: Facts) -> Batch:
            return Batch(1 if facts.updated < 2 else 0)

    result = forecast(
        Hesitant(DEFAULTS), make_bots(3), ignore_windows=ignore_windows, max_parallel=2, per_bot=MINUTE, now=NOW
    )

    assert ([wave.bots for wave in result.waves], result.ends_at, result.obstacle) == ([1, 1], None, NO_WAVE)


def test_without_bots_there_are_no_waves() -> None:
    assert run_forecast([]) == Forecast(0, (), {}, None)


@given(
    bots=FLEETS,
    strategy=st.sampled_from(list(STRATEGIES)),
    ignore_windows=st.booleans(),
)
def test_every_bot_is_in_a_wave_that_starts_inside_a_window(
    bots: list[ForecastBot], strategy: str, ignore_windows: bool
) -> None:
    result = run_forecast(bots, strategy, ignore_windows=ignore_windows)

    if result.obstacle:
        assert strategy_for(strategy, {}).next_batch(FIRST_WAVE).canary
        assert not any(bot.may_be_canary for bot in bots)
        return
    assert sum(wave.bots for wave in result.waves) == len(bots)
    starts = [wave.starts_at for wave in result.waves]
    assert starts == sorted(starts)
    if not ignore_windows:
        assert all(any(is_open(bot.hour_utc, start) for bot in bots) for start in starts)
