"""Tests of the template filters for times, digests and plurals."""

from datetime import timedelta

import pytest

from portal.models import utcnow
from portal.rules.strategies import STRATEGIES
from portal.web.templating import ago, duration, elapsed, plural, short_digest, strategy_label, upcoming


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (72, "1 min 12 s"),
        (7260, "2 h 1 min"),
        (3600, "1 h"),
        (90000, "1 day 1 h"),
        (180000, "2 days 2 h"),
    ],
)
def test_duration_has_up_to_two_units(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "just now"),
        (125, "2 min ago"),
        (7300, "2 h ago"),
        (200000, "2 days ago"),
        (-125, "in 2 min"),
        (-30, "now"),
        (-55, "now"),
        (-172790, "in 2 days"),
        (-604790, "in 7 days"),
        (-3590, "in 1 h"),
        (-61, "in 1 min"),
    ],
)
def test_moment_is_relative_to_now(seconds: int, text: str) -> None:
    assert ago(utcnow() - timedelta(seconds=seconds)) == text


def test_moment_that_has_passed_is_due_now() -> None:
    assert upcoming(utcnow() - timedelta(hours=1)) == "now"


@pytest.mark.parametrize(("seconds", "text"), [(20, "less than 1 min"), (630, "10 min"), (90000, "1 day")])
def test_elapsed_time_has_one_unit(seconds: int, text: str) -> None:
    assert elapsed(utcnow() - timedelta(seconds=seconds)) == text


def test_plural_follows_the_number() -> None:
    assert [plural(number, "bot") for number in (0, 1, 2)] == ["0 bots", "1 bot", "2 bots"]
    assert plural(2, "person", "people") == "2 people"


def test_every_strategy_has_a_short_label() -> None:
    assert [strategy_label(name) for name in STRATEGIES] == ["Rolling", "One by one", "Immediate"]


def test_digest_is_shortened() -> None:
    assert short_digest("sha256:" + "0123456789ab" + "f" * 52) == "0123456789ab"
