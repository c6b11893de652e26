"""Durations of the steps and phases of an update, and its downtime. Used by the page of a bot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.models import BotUpdate
from portal.rules import update_phases


@dataclass(frozen=True)
class StepDuration:
    """Duration of one step; `took` is None while the step runs."""

    name: str
    took: timedelta | None


def list_step_durations(update: BotUpdate) -> list[StepDuration]:
    """List the durations of the steps so far, in the order in which they started."""
    moments = {
        name: [datetime.fromisoformat(moment) for moment in times if moment] for name, times in update.timings.items()
    }
    starts = sorted((times[0], name) for name, times in moments.items() if times)
    return [
        StepDuration(name, moments[name][1] - start if len(moments[name]) > 1 else None) for start, name in starts
    ]


@dataclass(frozen=True)
class PhaseDuration:
    """Duration of one phase of an update, in seconds, with its number for a colour."""

    name: str
    number: int
    seconds: float


def list_phase_durations(update: BotUpdate, now: datetime) -> list[PhaseDuration]:
    """List the durations of the phases that an update has begun, in the order of the bar.

    Args:
        update: the update.
        now: the moment, until which a running step counts.
    """
    seconds: dict[str, float] = {}
    for name, times in update.timings.items():
        started, ended = (datetime.fromisoformat(moment) if moment else None for moment in (*times, None)[:2])
        if started is not None:
            phase = update_phases.find_phase(name)
            until = ended or update.ended_at or now
            seconds[phase] = seconds.get(phase, 0) + max(0, (until - started).total_seconds())
    names = [*update_phases.PHASES, update_phases.ROLLING_BACK]
    return [PhaseDuration(name, number, seconds[name]) for number, name in enumerate(names) if name in seconds]


def measure_downtime(update: BotUpdate) -> timedelta | None:
    """Return how long the bot did not answer; None when it was not stopped, or does not answer yet."""
    if update.stopped_at is None or update.answering_at is None:
        return None
    return update.answering_at - update.stopped_at
