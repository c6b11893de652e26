"""Canaries: which bots may be canaries, in which order, and how many."""

import pytest

from portal.rules.canary import DEFAULT_CANARIES, list_canaries, may_be_canary
from portal.rules.forecast import ForecastBot
from portal.rules.strategies import DEFAULTS, Batch
from portal.rules.waves import select_wave

UNPROTECTED = ForecastBot("one", 3, may_be_canary=False, canary_channel=True)
STABLE = ForecastBot("two", 3, may_be_canary=True)
CANARY_CHANNEL = ForecastBot("three", 3, may_be_canary=True, canary_channel=True)


@pytest.mark.parametrize(
    ("healthy", "protected", "expected"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_canary_is_healthy_and_its_data_is_protected(healthy: bool, protected: bool, expected: bool) -> None:
    assert may_be_canary(healthy=healthy, protected=protected) is expected


def test_canary_channel_comes_first() -> None:
    assert list_canaries([UNPROTECTED, STABLE, CANARY_CHANNEL]) == [CANARY_CHANNEL, STABLE]


def test_canary_wave_takes_canaries_only_and_one_by_default() -> None:
    bots = [UNPROTECTED, STABLE, CANARY_CHANNEL]

    assert DEFAULTS["canary"] == DEFAULT_CANARIES == 1
    assert select_wave(Batch(5, canary=True), bots) == [CANARY_CHANNEL, STABLE]
    assert select_wave(Batch(5), bots) == bots
