"""The health of a bot over a period: spans, bars, interruptions and percentages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from portal.rules import health_history
from portal.rules.health_history import Span, StateChange

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LONG_AGO = NOW - 100 * DAY


def hours_ago(hours: float) -> datetime:
    """Return a moment before now."""
    return NOW - timedelta(hours=hours)


def spans(*changes: StateChange, known_since: datetime = LONG_AGO) -> list[tuple[float, str]]:
    """Return hours and state of each span of the last day."""
    built = health_history.build_spans(changes, "running", begin=NOW - DAY, known_since=known_since, now=NOW)
    return [(span.duration / timedelta(hours=1), span.state) for span in built]


def test_spans_begin_with_the_state_before_the_first_change() -> None:
    assert spans() == [(24, "running")]
    down = StateChange(hours_ago(6), "running", "unhealthy")
    up = StateChange(hours_ago(5), "unhealthy", "running")
    assert spans(down, up) == [(18, "running"), (1, "unhealthy"), (5, "running")]


def test_there_are_no_data_before_a_bot_was_added() -> None:
    assert spans(known_since=hours_ago(10)) == [(14, "no data"), (10, "running")]
    assert spans(known_since=NOW + DAY) == [(24, "no data")], "a clock that was set back"
    ready = StateChange(hours_ago(2), "unknown", "running")
    assert spans(ready, known_since=hours_ago(10)) == [(14, "no data"), (8, "unknown"), (2, "running")]


def test_downtime_of_an_update_covers_what_is_below() -> None:
    base = [Span(hours_ago(24), hours_ago(4), "running"), Span(hours_ago(4), NOW, "unhealthy")]
    result = health_history.overlay(base, [Span(hours_ago(5), hours_ago(3), "updating")])
    assert [(span.duration / timedelta(hours=1), span.state) for span in result] == [
        (19, "running"),
        (2, "updating"),
        (3, "unhealthy"),
    ]


def test_bar_has_the_worst_state_that_occurs_in_it() -> None:
    base = [Span(hours_ago(24), hours_ago(13), "running"), Span(hours_ago(13), NOW, "running")]
    brief = Span(hours_ago(13.0001), hours_ago(13), "unhealthy")
    bars = health_history.build_bars(health_history.overlay(base, [brief]), 24)
    assert [bar.state for bar in bars].count("unhealthy") == 1
    assert bars[10].state == "unhealthy"
    assert health_history.build_bars([], 24) == []


def test_percentage_counts_the_time_with_data() -> None:
    history = [
        Span(hours_ago(24), hours_ago(10), "no data"),
        Span(hours_ago(10), hours_ago(1), "running"),
        Span(hours_ago(1), NOW, "stopped"),
    ]
    assert health_history.measure_health(history) == 90
    assert health_history.measure_health(history[:1]) is None
    assert [span.state for span in health_history.list_interruptions(history)] == ["stopped"]


_MOMENTS = st.floats(min_value=0, max_value=30).map(hours_ago)
_STATES = st.sampled_from(["running", "unhealthy", "stopped"])


@given(
    moments=st.lists(_MOMENTS, max_size=6).map(sorted),
    states=st.lists(_STATES, min_size=7, max_size=7),
    downtimes=st.lists(st.tuples(_MOMENTS, _MOMENTS).map(sorted), max_size=3),
    known_since=_MOMENTS,
)
def test_spans_always_cover_the_whole_period_without_gaps(
    moments: list[datetime], states: list[str], downtimes: list[list[datetime]], known_since: datetime
) -> None:
    changes = [
        StateChange(moment, old, new)
        for moment, old, new in zip(moments, states, states[1:], strict=False)
        if moment > NOW - DAY
    ]
    built = health_history.build_spans(changes, states[-1], begin=NOW - DAY, known_since=known_since, now=NOW)
    built = health_history.overlay(built, [Span(start, end, "updating") for start, end in downtimes])
    assert (built[0].start, built[-1].end) == (NOW - DAY, NOW)
    assert all(earlier.end == later.start for earlier, later in pairwise(built))
    assert all(span.duration > timedelta() for span in built)
