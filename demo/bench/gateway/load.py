"""Constant load on a gateway from another process, for the duration of a `with` block. Used by benchmark and test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from demo.bench.gateway.load_generator import Report
from demo.bench.gateway.visitors import Visitor


class Load:
    """Running load.

    Attributes:
        report: what was seen; complete after the `with` block.
    """

    def __init__(self) -> None:
        self.report = Report()


@contextmanager
def constant_load(port: int, visitors: Sequence[Visitor], *, rate: float, sockets: int) -> Iterator[Load]:
    """Send requests and keep WebSockets open for the duration of a `with` block.

    Args:
        port: where the gateway listens.
        visitors: people who are signed in.
        rate: requests per second.
        sockets: number of WebSockets.
    """
    arguments = [str(port), "--rate", str(rate), "--sockets", str(sockets)]
    load = Load()
    with subprocess.Popen(
        [sys.executable, "-m", "demo.bench.gateway.load_generator", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the load generator has no pipes")
        try:
            process.stdin.write(json.dumps([asdict(visitor) for visitor in visitors]) + "\n")
            process.stdin.flush()
            process.stdout.readline()  # it runs
            yield load
            process.terminate()
            load.report = _parse(process.stdout.read())
        finally:
            process.kill()


def _parse(text: str) -> Report:
    fields = json.loads(text)
    fields |= {name: Counter(fields[name]) for name in ("failed", "sockets_failed")}
    return Report(**fields)
