"""Helpers that run the real background processes and wait for their effects. Used by tests of the daemon."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Process = subprocess.Popen[bytes]


@contextmanager
def running(*arguments: str, log: Path) -> Iterator[Process]:
    """Run a Python module as a process; kill it at the end of the block if it is still running."""
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def end(process: Process, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> int:
    """Send a signal to a process, wait until it exits, and return its exit code."""
    process.send_signal(number)
    return process.wait(seconds)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds that other processes bring about.

    Raises:
        AssertionError: the condition did not hold in time; the message contains `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting until {what}")
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
