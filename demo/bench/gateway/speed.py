"""Benchmark of the gateway's speed and memory, compared with nginx. Used by `demo.bench.__main__`."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from demo.bench.environment import BenchEnvironment
from demo.bench.gateway.bot import DOWNLOAD_BYTES
from demo.bench.gateway.fronts import PROCESSES, Front, Fronts, running_fronts
from demo.bench.gateway.visitors import Visitor
from demo.bench.tables import Table
from demo.processes import require_program

_ROUNDS = 3
_SECONDS = 4
_CONNECTIONS = 32
_SOCKETS = 800
"""The kernel divides them among the processes by chance, and each process opens at most 512 to one bot."""
_CHUNK = bytes(1024 * 1024)
_SCRIPT = Path(__file__).with_name("wrk.lua")

Result = TypeVar("Result")


@dataclass(frozen=True)
class WrkResult:
    """What wrk measured. Times are in milliseconds.

    Attributes:
        per_second: requests per second.
        p50: median time of a request.
        p99: time within which 99 % of the requests were answered.
        processor: processor time of the measured programs per request.
    """

    per_second: float
    p50: float
    p99: float
    processor: float


def measure(environment: BenchEnvironment) -> Table:
    """Measure all fronts in turn."""
    require_program("wrk", "wrk")
    with environment.new_database() as database, running_fronts(environment, database) as fronts:
        names = [front.name for front in fronts]
        table = Table(
            f"The gateway: {PROCESSES} processes, compared with {PROCESSES} of nginx and {PROCESSES} of the endpoint",
            ("", *names, "gateway : nginx"),
            note="The bot, the load generator and the measured programs share the processors of this machine.",
        )
        table.rows.extend(_measure_small_answers(fronts))
        table.rows.extend(_measure_large_bodies(fronts))
        table.rows.append(_measure_sockets(fronts))
    return table


def _measure_small_answers(fronts: Fronts) -> Iterator[tuple[str, ...]]:
    busy = _alternate(fronts, lambda front: _run_wrk(front, fronts.visitors, _CONNECTIONS))
    single = _alternate(fronts, lambda front: _run_wrk(front, fronts.visitors, 1))
    yield _row(f"requests/s, {_CONNECTIONS} connections", busy, lambda load: load.per_second, "{:.0f}")
    yield _row("  p50, ms", busy, lambda load: load.p50, "{:.2f}")
    yield _row("  p99, ms", busy, lambda load: load.p99, "{:.2f}")
    yield _row("  processor time per request, ms", busy, lambda load: load.processor, "{:.3f}")
    yield _row("requests/s, 1 connection", single, lambda load: load.per_second, "{:.0f}")
    yield _row("  p50, ms", single, lambda load: load.p50, "{:.2f}")
    direct = statistics.median(load.p50 for load in single[0])
    yield _row("  added to p50, ms", single, lambda load: load.p50 - direct, "{:.2f}")
    yield _row("  p99, ms", single, lambda load: load.p99, "{:.2f}")


def _measure_large_bodies(fronts: Fronts) -> Iterator[tuple[str, ...]]:
    visitor = fronts.visitors[0]
    for name, transfer in (("download of 100 MB, MB/s", _download), ("upload of 100 MB, MB/s", _upload)):
        results = _alternate(fronts, lambda front, transfer=transfer: transfer(front, visitor))  # type: ignore[misc]
        yield _row(name, results, lambda seconds: DOWNLOAD_BYTES / 1e6 / seconds, "{:.0f}")


def _measure_sockets(fronts: Fronts) -> tuple[str, ...]:
    results = [[_measure_memory_of_sockets(front, fronts.visitors)] for front in fronts]
    return _row("MB per 1,000 idle WebSockets", results, lambda size: size / 1e6 * 1000 / _SOCKETS, "{:.1f}")


def _alternate(fronts: Fronts, measure_front: Callable[[Front], Result]) -> list[list[Result]]:
    """Measure every front several times in turn, so that a disturbance does not affect only one of them."""
    results: list[list[Result]] = [[] for _ in fronts]
    for _ in range(_ROUNDS):
        for front, measured in zip(fronts, results, strict=True):
            measured.append(measure_front(front))
    return results


def _row(name: str, results: list[list[Result]], value: Callable[[Result], float], form: str) -> tuple[str, ...]:
    """Return a row with the median of each front, and the ratio of the gateway to nginx."""
    medians = [statistics.median(map(value, measured)) for measured in results]
    _, nginx, gateway = medians
    return name, *(form.format(median) for median in medians), f"{gateway / nginx:.2f}" if nginx else "-"


def _run_wrk(front: Front, visitors: Sequence[Visitor], connections: int) -> WrkResult:
    headers = [part for name, value in visitors[0].headers.items() for part in ("-H", f"{name}: {value}")]
    address = f"http://127.0.0.1:{front.port}/notes?page=2"
    options = ["-t", "1", "-c", str(connections), "-d", str(_SECONDS), "-s", str(_SCRIPT)]
    cookies = [visitor.headers["Cookie"] for visitor in visitors]
    command = ["wrk", *options, *headers, address, "--", *cookies]
    before = front.read_processor_seconds()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = front.read_processor_seconds() - before
    result = json.loads(output.partition("RESULT ")[2])
    if result["failed"]:
        raise RuntimeError(f"{front.name}: {result['failed']} of {result['requests']} requests failed")
    seconds = result["microseconds"] / 1e6
    p50, p99, processor = result["p50"] / 1000, result["p99"] / 1000, used / result["requests"] * 1000
    return WrkResult(result["requests"] / seconds, p50, p99, processor)


def _send(connection: socket.socket, method: str, target: str, visitor: Visitor, **headers: str) -> None:
    fields = {**visitor.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode())


def _receive_head(connection: socket.socket, status: bytes) -> bytes:
    """Return what was received after the headers of a response."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            raise RuntimeError("the connection was closed before the response")
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    if head.split(b" ")[1] != status:
        raise RuntimeError(f"unexpected response {head.splitlines()[0]!r}")
    return rest


def _download(front: Front, visitor: Visitor) -> float:
    """Return how many seconds the download took."""
    buffer = bytearray(len(_CHUNK))
    with socket.create_connection(("127.0.0.1", front.port), 60) as connection:
        started = time.perf_counter()
        _send(connection, "GET", "/download", visitor)
        left = DOWNLOAD_BYTES - len(_receive_head(connection, b"200"))
        while left:
            size = connection.recv_into(buffer)
            if not size:
                raise RuntimeError(f"{front.name}: the download broke off")
            left -= size
        return time.perf_counter() - started


def _upload(front: Front, visitor: Visitor) -> float:
    """Return how many seconds the upload took, until the bot's response."""
    with socket.create_connection(("127.0.0.1", front.port), 60) as connection:
        started = time.perf_counter()
        _send(connection, "POST", "/upload", visitor, Content_Length=str(DOWNLOAD_BYTES))
        for start in range(0, DOWNLOAD_BYTES, len(_CHUNK)):
            connection.sendall(_CHUNK[: DOWNLOAD_BYTES - start])
        _receive_head(connection, b"200")
        return time.perf_counter() - started


def _measure_memory_of_sockets(front: Front, visitors: Sequence[Visitor]) -> int:
    """Return the bytes of memory by which the front grows while WebSockets of all visitors are open."""
    with ExitStack() as stack:
        _open_socket(front, visitors[0], stack)  # memory that the first one needs is not counted
        before = front.read_memory()
        for number in range(_SOCKETS):
            _open_socket(front, visitors[number % len(visitors)], stack)
        time.sleep(1)
        return front.read_memory() - before


def _open_socket(front: Front, visitor: Visitor, stack: ExitStack) -> None:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), 60))
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    _send(connection, "GET", "/socket", visitor, **headers, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    _receive_head(connection, b"101")
