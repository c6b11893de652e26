"""Delays before repetitions of failed calls."""

from __future__ import annotations

from datetime import timedelta

from portal.rules import backoff


def test_the_limit_of_a_delay_doubles_up_to_fifteen_minutes() -> None:
    for failures, limit in ((1, 1), (2, 2), (5, 16), (10, 512), (11, 900), (1000, 900)):
        delays = [backoff.choose_delay(failures) for _ in range(200)]
        assert max(delays) <= timedelta(seconds=limit)
        assert max(delays) > timedelta(seconds=limit * 0.8)
        assert min(delays) < timedelta(seconds=limit * 0.2)
