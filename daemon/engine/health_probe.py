"""Health checks of bots: read the address, probe once, wait until healthy. Used by updates, node probe, adoption."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import NotFound

from daemon.engine.addresses import read_address
from daemon.network.deadlines import Deadline, connect
from portal.models import Bot, HealthExpectation, Node
from portal.rules.outside_text import clean_line

PROBE_SECONDS = 5.0
MAX_BYTES = 64 * 1024
"""How much of an answer is read."""
_MAX_QUOTED = 200
_FIRST_PAUSE_SECONDS = 0.05
_PAUSE_SHARE = 0.1
"""Pauses grow with the time that has passed, so that they hardly delay the moment at which a bot is found healthy."""
_PAUSE_AFTER_SUCCESS_SECONDS = 0.1
RETRY_PAUSE_SECONDS = 1.0
_REQUIRED_SUCCESSES = 2
"""Consecutive successful probes after which a container counts as healthy."""


@dataclass(frozen=True)
class HealthCheck:
    """The health check of a bot.

    Attributes:
        path: such as `/health`.
        port: the bot's port in the container.
        expectation: which response means that the bot is healthy.
    """

    path: str
    port: int = 3100
    expectation: HealthExpectation = HealthExpectation.JSON_STATUS_OK

    @classmethod
    def of(cls, bot: Bot) -> HealthCheck:
        """Return the health check of a bot."""
        return cls(bot.health_path, bot.port, bot.health_expectation)


@dataclass(frozen=True)
class ProbeResult:
    """Result of one probe.

    Attributes:
        ok: the response is the expected one.
        detail: the answer or the error, for display.
    """

    ok: bool
    detail: str


@dataclass(frozen=True)
class HealthResult:
    """Result of waiting for a container to become healthy.

    Attributes:
        healthy: two consecutive probes succeeded, answered by the container that was started.
        reason: for display; the last answer when the container did not become healthy.
        address: `host:port` of the container, or None when it has none.
    """

    healthy: bool
    reason: str
    address: str | None


def probe(address: str, check: HealthCheck, seconds: float = PROBE_SECONDS) -> ProbeResult:
    """Probe a bot with one GET that follows no redirect, uses no proxy and reads at most 64 KB.

    Args:
        address: `host:port`.
        check: what is requested and expected.
        seconds: time limit from the connection to the last byte of the answer.
    """
    try:
        with Deadline(seconds):
            status, body = _request(address, check.path, seconds)
    # ValueError: the address or the path cannot be sent.
    except (OSError, http.client.HTTPException, ValueError) as error:
        return judge_error(error, seconds)
    return judge_answer(check, status, body)


def judge_answer(check: HealthCheck, status: int, body: bytes) -> ProbeResult:
    """Judge an answer by what is expected of it.

    Args:
        check: what was requested and is expected.
        status: the HTTP status.
        body: the first `MAX_BYTES` of the body, and one byte more if it is longer.
    """
    return _EVALUATIONS[check.expectation](status, body)


def judge_error(error: Exception, seconds: float) -> ProbeResult:
    """Describe why there is no answer.

    Args:
        error: an error of the connection or of the answer's form.
        seconds: the time limit of the probe.
    """
    if isinstance(error, TimeoutError):
        return ProbeResult(ok=False, detail=f"timed out ({seconds:g} s)")
    return ProbeResult(ok=False, detail=f"no answer: {_describe(error)}")


def probe_with_retry(address: str, check: HealthCheck) -> ProbeResult:
    """Probe a running bot, and probe it again if the first probe fails.

    A single failed probe does not mark a bot unhealthy, because an unhealthy bot counts as a failure of a rollout.
    """
    result = probe(address, check)
    if result.ok:
        return result
    time.sleep(RETRY_PAUSE_SECONDS)
    return probe(address, check)


def wait_until_healthy(
    engine: docker.APIClient,
    container_id: str,
    node: Node,
    check: HealthCheck,
    *,
    timeout: float,
    interval: float,
) -> HealthResult:
    """Wait until two consecutive probes of a container that was just started succeed.

    See `choose_pause` for the pauses between probes. The wait ends at once when the container exits, restarts, is
    removed, or is started again by another process.

    Args:
        engine: the node's engine.
        container_id: the container, started.
        node: the node, for the address.
        check: the health check of the bot.
        timeout: time limit in seconds.
        interval: longest pause between two probes in seconds.
    """
    started = time.monotonic()
    deadline = started + timeout
    first = _ContainerRun.read(engine, container_id)
    last = ProbeResult(ok=False, detail="no probe was made")
    address = None
    successes = 0
    while time.monotonic() < deadline:
        current = _ContainerRun.read(engine, container_id)
        if problem := first.describe_problem(current):
            return HealthResult(healthy=False, reason=problem, address=address)
        if successes == _REQUIRED_SUCCESSES:
            return HealthResult(healthy=True, reason=last.detail, address=address)
        address = read_address(current.inspect, node, check.port)
        last = (
            probe(address, check)
            if address
            else ProbeResult(ok=False, detail=f"port {check.port} cannot be reached from this machine")
        )
        successes = successes + 1 if last.ok else 0
        # After the last success the loop runs once more, only to check that the same container still runs.
        if successes < _REQUIRED_SUCCESSES:
            pause = choose_pause(time.monotonic() - started, interval, after_success=last.ok)
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
    return HealthResult(healthy=False, reason=f"{last.detail} after {timeout:g} s of probing", address=address)


def choose_pause(elapsed: float, interval: float, *, after_success: bool) -> float:
    """Return the pause before the next probe of a container that was just started.

    Args:
        elapsed: seconds since the first probe.
        interval: longest pause in seconds.
        after_success: whether the last probe succeeded.
    """
    if after_success:
        return min(_PAUSE_AFTER_SUCCESS_SECONDS, interval)
    return min(max(_FIRST_PAUSE_SECONDS, elapsed * _PAUSE_SHARE), interval)


@dataclass(frozen=True)
class _ContainerRun:
    """The engine's description of a container during one run; empty when the container does not exist."""

    inspect: dict[str, Any]

    @classmethod
    def read(cls, engine: docker.APIClient, container_id: str) -> _ContainerRun:
        try:
            return cls(engine.inspect_container(container_id))
        except NotFound:
            return cls({})

    def describe_problem(self, current: _ContainerRun) -> str | None:
        """Say why `current` is no longer this run; None when it is."""
        if not current.inspect:
            return "the container was removed"
        state = current.inspect["State"]
        if state.get("OOMKilled"):
            return "the container ran out of memory"
        if state["Status"] in {"exited", "dead", "created"}:
            return f"the container exited with status {state['ExitCode']}"
        if current.inspect["RestartCount"] or state["Status"] == "restarting":
            return f"the container restarted after exit status {state['ExitCode']}"
        if state["StartedAt"] != self.inspect["State"]["StartedAt"]:
            return "the container was stopped and started during the health check"
        return None


def _request(address: str, path: str, seconds: float) -> tuple[int, bytes]:
    """Return the status and the beginning of the body."""
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname or "", parts.port or http.client.HTTP_PORT
    connection = http.client.HTTPConnection(host, port)
    try:
        connection.sock = connect(host, port, seconds)
        connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES + 1)
    finally:
        connection.close()


def _expect_2xx(status: int, _body: bytes) -> ProbeResult:
    return ProbeResult(ok=200 <= status < 300, detail=f"HTTP {status}")


def _expect_json_status_ok(status: int, body: bytes) -> ProbeResult:
    if status != http.HTTPStatus.OK:
        return ProbeResult(ok=False, detail=f"HTTP {status}")
    if len(body) > MAX_BYTES:
        return ProbeResult(ok=False, detail="answer larger than 64 KB")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ProbeResult(ok=False, detail="HTTP 200, but the answer is not JSON")
    reported = answer.get("status") if isinstance(answer, dict) else None
    if reported == "ok":
        return ProbeResult(ok=True, detail="ok")
    if not isinstance(reported, str):
        return ProbeResult(ok=False, detail="HTTP 200 without a status")
    return ProbeResult(ok=False, detail=f"HTTP 200 with status '{clean_line(reported, 100)}' instead of 'ok'")


_EVALUATIONS = {
    HealthExpectation.JSON_STATUS_OK: _expect_json_status_ok,
    HealthExpectation.ANY_2XX: _expect_2xx,
}


def _describe(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else error
    # The error of an invalid answer quotes its first line, which is up to 64 KB long.
    return clean_line(text, _MAX_QUOTED) or type(error).__name__
