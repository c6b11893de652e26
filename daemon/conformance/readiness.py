"""Waiting for a bot that was just started: its port, its health, and whether health is honest. Used by checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from daemon.conformance import provision_calls as calls
from daemon.conformance.outcomes import Skipped, Violation
from daemon.conformance.trial import Trial
from daemon.engine.health_probe import HealthCheck, probe
from daemon.network.deadlines import Deadline, connect
from portal.rules.outside_text import clean_text

_PAUSE_SECONDS = 0.05
_CONNECT_SECONDS = 5.0
_MAX_LOG = 1500


def wait_for_port(trial: Trial) -> None:
    """Wait until the bot accepts connections.

    Raises:
        Violation: it exited, or does not listen within the time for a start.
    """

    def accepts() -> bool:
        _require_running(trial)
        address = trial.bot.address()
        if address is None:
            return False
        host, _, port = address.rpartition(":")
        try:
            with Deadline(_CONNECT_SECONDS):
                connect(host, int(port), _CONNECT_SECONDS).close()
        except OSError:
            return False
        return True

    if not _wait_until(accepts, trial.options.start_seconds):
        raise Violation(
            f"Nothing listens on port {trial.options.port} after {trial.options.start_seconds:g} s."
            f" A bot that listens on 127.0.0.1 only cannot be reached.{_quote_log(trial)}"
        )


def wait_for_health(trial: Trial) -> None:
    """Wait until health is "ok" for the first time.

    Raises:
        Violation: the bot exited, or is not healthy within the time for a start.
    """
    last = ""

    def is_healthy() -> bool:
        nonlocal last
        _require_running(trial)
        result = probe(trial.address(), HealthCheck(trial.options.health_path))
        last = result.detail
        return result.ok

    if not _wait_until(is_healthy, trial.options.start_seconds):
        raise Violation(
            f"GET {trial.options.health_path} is not healthy after {trial.options.start_seconds:g} s: {last}."
            f"{_quote_log(trial)}"
        )


def require_ready(trial: Trial) -> None:
    """Check that calls work now, directly after health was "ok" for the first time.

    Raises:
        Violation: a call failed. Before that, the function waits until calls work, so that later checks can run.
    """
    try:
        _call_twice(trial)
    except Violation as error:
        with suppress(Skipped):  # after several calls without an answer
            _wait_until(lambda: _works(trial), trial.options.start_seconds)
        raise Violation(f'Health was "ok" before the bot could serve: {error}') from error


def require_lasting_health(trial: Trial) -> None:
    """Check that health stays "ok" for a while.

    Raises:
        Violation: one probe failed.
    """
    until = time.monotonic() + trial.options.watch_seconds
    while time.monotonic() < until:
        _require_running(trial)
        result = probe(trial.address(), HealthCheck(trial.options.health_path))
        if not result.ok:
            raise Violation(f'Health was "ok", and then: {result.detail}.')
        time.sleep(_PAUSE_SECONDS)


def restart(trial: Trial, image: str, **environment: str) -> None:
    """Start a bot on the current volumes and wait until it is healthy and ready.

    Raises:
        Violation: it does not start, is not healthy in time, or is not ready when it says so.
    """
    trial.start(image, **environment)
    wait_for_port(trial)
    wait_for_health(trial)
    require_ready(trial)


def _wait_until(is_done: Callable[[], bool], seconds: float) -> bool:
    """Wait until a question is answered with yes. Return False when the time is over."""
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def _call_twice(trial: Trial) -> None:
    trial.send(calls.create_request(calls.HEALTH)).expect(200)
    answer = trial.call(calls.PROVISION, {})
    if answer.status >= 500:
        raise Violation(f"{answer} to an empty object, expected 422.")


def _works(trial: Trial) -> bool:
    try:
        _call_twice(trial)
    except Violation:
        return False
    return True


def _require_running(trial: Trial) -> None:
    if problem := trial.bot.problem():
        raise Violation(f"{problem}{_quote_log(trial)}")


def _quote_log(trial: Trial) -> str:
    log = clean_text(trial.bot.log_tail().strip()[-_MAX_LOG:], _MAX_LOG)
    return f"\nIts log ends with:\n{log}" if log else " Its log is empty."
