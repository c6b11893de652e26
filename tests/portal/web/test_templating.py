"""Times and digests as people read them."""

from datetime import timedelta

import pytest

from portal.models import utcnow
from portal.web.templating import ago, duration, short_digest


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (72, "1 min 12 s"),
        (7260, "2 h 1 min"),
        (3600, "1 h"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (5, "just now"),
        (125, "2 min ago"),
        (7300, "2 h ago"),
        (200000, "2 d ago"),
        (-125, "in 2 min"),
        (-30, "in a moment"),
        (-172790, "in 2 d"),
        (-604790, "in 7 d"),
        (-3590, "in 1 h"),
        (-61, "in 1 min"),
    ],
)
def test_moments_are_relative(seconds: int, said: str) -> None:
    assert ago(utcnow() - timedelta(seconds=seconds)) == said


def test_digests_are_shortened() -> None:
    assert short_digest("sha256:" + "0123456789ab" + "f" * 52) == "0123456789ab"
