"""Windows: when they are open, and the next one."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from portal.rules.windows import is_open, next_window

MOMENTS = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
HOURS = st.integers(0, 23)


def test_the_window_includes_its_start_and_excludes_its_end() -> None:
    opens = datetime(2026, 5, 4, 3, tzinfo=UTC)

    assert is_open(3, opens)
    assert is_open(3, opens + timedelta(minutes=59, seconds=59, microseconds=999_999))
    assert not is_open(3, opens - timedelta(microseconds=1))
    assert not is_open(3, opens + timedelta(hours=1))


def test_the_hour_is_utc_for_a_moment_in_any_zone() -> None:
    tokyo = timezone(timedelta(hours=9))

    assert is_open(23, datetime(2026, 5, 5, 8, 30, tzinfo=tokyo))
    assert next_window(23, datetime(2026, 5, 5, 8, 30, tzinfo=tokyo)).opens == datetime(2026, 5, 4, 23, tzinfo=UTC)


def test_after_the_window_the_next_one_is_tomorrow() -> None:
    assert next_window(3, datetime(2026, 12, 31, 4, tzinfo=UTC)).opens == datetime(2027, 1, 1, 3, tzinfo=UTC)


@given(hour=HOURS, now=MOMENTS)
def test_the_next_window_is_the_open_one_or_the_next_to_open(hour: int, now: datetime) -> None:
    window = next_window(hour, now)

    assert window.closes - window.opens == timedelta(hours=1)
    assert window.opens.hour == hour
    assert now < window.closes <= now + timedelta(hours=25)
    assert (window.opens <= now) == is_open(hour, now)
    assert is_open(hour, window.opens)
