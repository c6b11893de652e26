"""Worker processes that start at once, because they are forked from one process that has imported everything.

Used by tests that kill many workers. `python -m tests.daemon.update.forking_worker` reads one job per line and prints
the id of the worker's process, and then its status.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from daemon.update import update_context
from daemon.update.sequence import update_bot
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.settings import Settings

CALL_SECONDS = 4
"""Time limit of a call of these workers, which delayed calls exceed."""


class ForkingWorker:
    """Runs updates in worker processes, one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = 0

    def start(self, update_id: str, environment: Mapping[str, str]) -> None:
        """Start a worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"update": update_id, "environment": dict(environment)}) + "\n")
        self._process.stdin.flush()
        self.pid = int(self._read())

    def kill(self) -> None:
        """Kill the worker with SIGKILL."""
        assert self.pid, "no worker runs"
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the worker, and return its status; negative if it was killed."""
        status, self.pid = int(self._read()), 0
        return status

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks workers has died"
        return line


@contextmanager
def forking_worker(log: Path) -> Iterator[ForkingWorker]:
    """Run the process that forks workers. Their log goes to a file."""
    command = [sys.executable, "-m", "tests.daemon.update.forking_worker"]
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=Path(__file__).parents[3],
        ) as process,
    ):
        try:
            yield ForkingWorker(process)
        finally:
            process.kill()


def _main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run_in_child(job["update"], job["environment"])
        _report(pid)
        _report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _report(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _run_in_child(update_id: str, environment: Mapping[str, str]) -> None:
    try:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
        vars(update_context)["CALL_SECONDS"] = CALL_SECONDS
        os.environ.update(environment)
        settings = Settings.from_environment()
        use_keys(settings.secret_key)
        update_bot(Database(settings.database_url), settings, update_id)
    except BaseException:  # noqa: BLE001 - the child must never continue as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main()
