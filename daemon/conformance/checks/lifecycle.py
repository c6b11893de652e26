"""Checks of stop and restart: only volumes are written, the bot stops in time, and its data is kept."""

from __future__ import annotations

from daemon.conformance import readiness
from daemon.conformance.checks.members import added_person_is_member
from daemon.conformance.checks.starting import becomes_healthy
from daemon.conformance.kept_data import expect_kept, leave_data
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.trial import Trial

_MAX_SHOWN = 5


@check("C5", "The bot writes only to its volumes, /tmp and /run", becomes_healthy)
def only_volumes_are_written(trial: Trial) -> None:
    """Compare the file system of the container with that of the image."""
    if paths := trial.bot.changed_paths():
        shown = ", ".join(paths[:_MAX_SHOWN]) + (f" and {len(paths) - _MAX_SHOWN} more" * (len(paths) > _MAX_SHOWN))
        raise Violation(
            f"The bot wrote to {shown}. An update loses what is outside of the volumes. Caches belong in /tmp."
        )


@check("C6", "A new container with the same volumes has all data", added_person_is_member)
def data_survives_restart(trial: Trial) -> None:
    """Stop the bot, and start another one on its volumes."""
    kept = leave_data(trial)
    trial.stop()
    readiness.restart(trial, trial.image, **trial.secrets())
    expect_kept(trial, kept, "after a restart")


@check("C7", "Answered calls survive a kill", data_survives_restart)
def data_survives_kill(trial: Trial) -> None:
    """Kill the bot directly after it has answered."""
    kept = leave_data(trial)
    trial.end()
    readiness.restart(trial, trial.image, **trial.secrets())
    expect_kept(trial, kept, "after a kill")


@check("C8", "The bot stops in time", becomes_healthy)
def stops_in_time(trial: Trial) -> None:
    """Stop the bot and read how it exited."""
    stopped = trial.stop()
    if stopped.killed:
        raise Violation(
            f"The bot still ran 10 s after signal {stopped.signal} and was killed. The first process of a container"
            " ignores signals without a handler."
        )
    if stopped.exit_code not in {0, 128 + stopped.signal}:
        raise Violation(f"The bot exited with status {stopped.exit_code} after its stop signal, expected 0.")


CHECKS = (only_volumes_are_written, data_survives_restart, data_survives_kill, stops_in_time)
