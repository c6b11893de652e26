"""Durations of the phases of an update."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from portal.models import BotUpdate
from portal.services.rollouts import timings

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    """Return a moment as the journal stores it."""
    return (START + timedelta(seconds=seconds)).isoformat()


def list_phases(update: BotUpdate) -> list[tuple[str, float]]:
    """Return name and seconds of each phase, a minute after the start."""
    found = timings.list_phase_durations(update, START + timedelta(minutes=1))
    return [(phase.name, phase.seconds) for phase in found]


def test_steps_are_added_up_by_phase_in_the_order_of_the_bar() -> None:
    steps = {"claim": [at(0), at(1)], "pull": [at(1), at(5)], "precreate": [at(5), at(7)], "base": [at(7), at(10)]}
    steps |= {"stop": [at(10), at(11)], "snapshot": [at(11), at(13)], "start": [at(13), at(14)], "health": [at(14)]}
    running = BotUpdate(timings=steps)
    assert list_phases(running) == [
        ("Preparing", 3),
        ("Downloading", 4),
        ("Saving data", 5),
        ("Switching", 2),
        ("Checking", 46),
    ]


def test_rollback_is_a_phase_and_a_step_without_end_stops_with_its_update() -> None:
    steps = {"claim": [at(0), at(1)], "health": [at(1), at(1)], "rollback": [at(1), None], "swap": [None]}
    ended = BotUpdate(timings=steps, ended_at=START + timedelta(seconds=4))
    assert list_phases(ended) == [("Preparing", 1), ("Checking", 0), ("Rolling back", 3)]
    assert list_phases(BotUpdate(timings={})) == []
