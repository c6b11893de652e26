"""Whether a bot is well: where it listens, one probe over HTTP, and the wait for a container just started."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import NotFound

from portal.models import Node

_PROBE_SECONDS = 5.0
_MOST_BYTES = 64 * 1024
_FIRST_PAUSE = 0.25
_SECOND_TRY_AFTER = 1.0
_NEEDED_IN_A_ROW = 2


@dataclass(frozen=True)
class ProbeResult:
    """One question and its answer.

    Attributes:
        ok: 200 and JSON whose `status` is `"ok"`.
        detail: what was answered, in words for people.
    """

    ok: bool
    detail: str


@dataclass(frozen=True)
class HealthResult:
    """What became of a container that was to become healthy.

    Attributes:
        healthy: it answered well, twice running, from the container that was started.
        reason: in words for people; the last answer where it never became healthy.
        address: `host:port` where it answers, where one was found.
    """

    healthy: bool
    reason: str
    address: str | None


def probe(address: str, path: str, seconds: float = _PROBE_SECONDS) -> ProbeResult:
    """Ask a bot how it is: one GET that follows no redirect, uses no proxy and reads at most 64 KB.

    Args:
        address: `host:port`.
        path: such as `/health`.
        seconds: for the whole answer, however slowly it trickles.
    """
    started = time.monotonic()
    answer = _ask(address, path, seconds)
    if not answer.ok and time.monotonic() - started >= seconds:
        return ProbeResult(ok=False, detail=f"no whole answer within {seconds:g} seconds")
    return answer


def probe_with_retry(address: str, path: str) -> ProbeResult:
    """Ask a bot at work how it is, and once more if it does not answer well.

    One lost answer is no illness, and being called ill has consequences during a rollout.
    """
    answer = probe(address, path)
    if answer.ok:
        return answer
    time.sleep(_SECOND_TRY_AFTER)
    return probe(address, path)


def read_address(inspect: dict[str, Any], node: Node, port: int) -> str | None:
    """Where a running container is reached; to be read after every start, for free ports and addresses change.

    The published port at the node's `bot_host`; for a container in the network of its host the port itself; else,
    where the engine runs on this machine, the container's address in its primary network.

    Returns:
        `host:port`, or None where there is no way.
    """
    host = f"[{node.bot_host}]" if ":" in node.bot_host else node.bot_host
    published = (inspect["NetworkSettings"].get("Ports") or {}).get(f"{port}/tcp")
    if published:
        return f"{host}:{published[0]['HostPort']}"
    primary = inspect["HostConfig"]["NetworkMode"]
    if primary == "host":
        return f"{host}:{port}" if inspect["State"]["Running"] else None
    if not node.docker_url.startswith("unix:"):
        return None
    networks = inspect["NetworkSettings"].get("Networks") or {}
    network = networks.get("bridge" if primary == "default" else primary) or {}
    own = network.get("IPAddress")
    return f"{own}:{port}" if own else None


def wait_until_healthy(
    engine: docker.APIClient,
    container_id: str,
    node: Node,
    port: int,
    path: str,
    *,
    timeout: float,
    interval: float,
    renew_or_raise: Callable[[], object],
) -> HealthResult:
    """Wait until a container that was just started answers well twice running.

    Probes come quickly at first, then at the interval. A container that exits, restarts or is started by somebody
    else meanwhile has failed at once.

    Args:
        engine: the node's engine.
        container_id: the container, started.
        node: for the address.
        port: the bot's port in the container.
        path: of the health check.
        timeout: seconds until it is given up.
        interval: seconds between two probes.
        renew_or_raise: called before each probe; raises when this worker may not go on.
    """
    deadline = time.monotonic() + timeout
    first = _Start.of(engine, container_id)
    last = ProbeResult(ok=False, detail="it was never asked")
    address = None
    in_a_row = 0
    pauses = _pauses(interval)
    while time.monotonic() < deadline:
        renew_or_raise()
        current = _Start.of(engine, container_id)
        if trouble := first.trouble(current):
            return HealthResult(healthy=False, reason=trouble, address=address)
        if in_a_row == _NEEDED_IN_A_ROW:
            return HealthResult(healthy=True, reason=last.detail, address=address)
        address = read_address(current.inspect, node, port)
        last = (
            probe(address, path)
            if address
            else ProbeResult(ok=False, detail=f"port {port} cannot be reached from here")
        )
        in_a_row = in_a_row + 1 if last.ok else 0
        if in_a_row < _NEEDED_IN_A_ROW:  # else only look once more whether it is still the same container
            time.sleep(min(next(pauses), max(0.0, deadline - time.monotonic())))
    return HealthResult(
        healthy=False, reason=f"not healthy within {timeout:g} seconds: {last.detail}", address=address
    )


@dataclass(frozen=True)
class _Start:
    """One start of a container: what tells it from another."""

    inspect: dict[str, Any]

    @classmethod
    def of(cls, engine: docker.APIClient, container_id: str) -> _Start:
        try:
            return cls(engine.inspect_container(container_id))
        except NotFound:
            return cls({})

    def trouble(self, current: _Start) -> str | None:
        if not current.inspect:
            return "the container was removed"
        state = current.inspect["State"]
        if state.get("OOMKilled"):
            return "the container ran out of memory"
        if state["Status"] in {"exited", "dead", "created"}:
            return f"the container exited with status {state['ExitCode']}"
        if current.inspect["RestartCount"] or state["Status"] == "restarting":
            return f"the container restarted; its last status was {state['ExitCode']}"
        if state["StartedAt"] != self.inspect["State"]["StartedAt"]:
            return "the container was stopped and started meanwhile"
        return None


def _pauses(interval: float) -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield min(pause, interval)
        pause *= 2


def _ask(address: str, path: str, seconds: float) -> ProbeResult:
    parts = urlsplit(f"//{address}")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.connect()
        with _cut_off(connection.sock, seconds):
            connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
            response = connection.getresponse()
            return _judge(response.status, response.read(_MOST_BYTES + 1))
    except (OSError, http.client.HTTPException) as error:
        return ProbeResult(ok=False, detail=f"no answer: {_words(error)}")
    finally:
        connection.close()


def _judge(status: int, body: bytes) -> ProbeResult:
    if status != http.HTTPStatus.OK:
        return ProbeResult(ok=False, detail=f"answered {status}")
    if len(body) > _MOST_BYTES:
        return ProbeResult(ok=False, detail="answered more than 64 KB")
    try:
        answer = json.loads(body)
    except ValueError:
        return ProbeResult(ok=False, detail="answered 200, but not with JSON")
    said = answer.get("status") if isinstance(answer, dict) else None
    if said == "ok":
        return ProbeResult(ok=True, detail="ok")
    return ProbeResult(ok=False, detail=f"answered 200 with status {str(said)[:100]!r} instead of 'ok'")


@contextmanager
def _cut_off(connected: socket.socket, seconds: float) -> Iterator[None]:
    # A socket's own timeout starts anew with each byte.
    timer = threading.Timer(seconds, _shut_down, [connected])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was closed just before


def _words(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error) or type(error).__name__
