"""Words for the steps of an update: what a running step does, and the five phases of its duration bar.

Used by the status of a bot and by the history of its updates.
"""

from __future__ import annotations

STEPS = (
    *("claim", "preflight", "pull", "capture", "precreate", "base", "drain", "stop", "snapshot", "swap", "start"),
    *("health", "commit"),
)
"""The steps of an update that succeeds, in their order."""

PHASES: dict[str, frozenset[str]] = {
    "Preparing": frozenset({"claim", "preflight", "capture", "precreate"}),
    "Downloading": frozenset({"pull"}),
    "Saving data": frozenset({"base", "snapshot"}),
    "Switching": frozenset({"drain", "stop", "swap", "start"}),
    "Checking": frozenset({"health", "commit"}),
}
"""The phases in the order of the bar, with their steps."""

ROLLING_BACK = "Rolling back"
"""The phase of an update that failed."""

_ACTIVITIES = {
    "pull": "downloading the new version",
    "base": "taking a snapshot",
    "drain": "finishing running requests",
    "stop": "stopping",
    "snapshot": "taking a snapshot",
    "swap": "starting",
    "start": "starting",
    "health": "checking its health",
    "commit": "finishing",
    "rollback": "rolling back to the old version",
}


def describe_step(step: str | None) -> str:
    """Return what an update does in a step, in words for customers; None is a step that has not begun."""
    return _ACTIVITIES.get(step or "", "preparing")


def find_phase(step: str) -> str:
    """Return the phase to which a step belongs."""
    return next((name for name, steps in PHASES.items() if step in steps), ROLLING_BACK)


def count_done(step: str | None) -> int:
    """Return how many of `STEPS` have begun when an update is in a step. A rollback counts none."""
    return STEPS.index(step) + 1 if step in STEPS else 0
