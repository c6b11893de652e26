"""Checks of the first start on empty volumes: port, health, readiness."""

from __future__ import annotations

from daemon.conformance import readiness
from daemon.conformance.outcomes import check
from daemon.conformance.trial import Trial


@check("C2", "The bot starts on empty volumes and listens on its port")
def listens_on_its_port(trial: Trial) -> None:
    """Start a bot and connect to it."""
    trial.volumes = trial.lab.create_volumes()
    trial.start(trial.image, **trial.secrets())
    readiness.wait_for_port(trial)


@check("C3", "The bot becomes healthy", listens_on_its_port)
def becomes_healthy(trial: Trial) -> None:
    """Wait for the first healthy answer."""
    readiness.wait_for_health(trial)


@check("C4", 'Calls work as soon as health is "ok"', becomes_healthy)
def is_ready_when_healthy(trial: Trial) -> None:
    """Call the bot at the moment at which it said that it is healthy."""
    readiness.require_ready(trial)


@check("C4", 'Health stays "ok"', becomes_healthy)
def stays_healthy(trial: Trial) -> None:
    """Probe for a while."""
    readiness.require_lasting_health(trial)


CHECKS = (listens_on_its_port, becomes_healthy, is_ready_when_healthy, stays_healthy)
