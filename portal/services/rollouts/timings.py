"""Durations of the steps of an update, and its downtime. Used by the page of a bot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.models import BotUpdate


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


def measure_downtime(update: BotUpdate) -> timedelta | None:
    """Return how long the bot did not answer; None when it was not stopped, or does not answer yet."""
    if update.stopped_at is None or update.answering_at is None:
        return None
    return update.answering_at - update.stopped_at
