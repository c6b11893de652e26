"""A program that runs the real supervisor with two additional jobs. Used by the tests of the worker.

Run it as `python -m tests.daemon.work_for_tests GRACE`, with the grace period in seconds.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

from rq.job import Job

from daemon import jobs, rq_worker, worker
from daemon.context import current_context
from daemon.registry.client import RegistryClient
from portal import logs

PREFIX = "tests.daemon.work_for_tests"


def note(file: str) -> None:
    """Create a file, which proves that the job ran."""
    Path(file).touch()


def trespass(job: Job, *_: object) -> None:
    """Create a file, which proves that a function ran that is not a job."""
    Path(f"{job.args[0]}-trespass").touch()


def long_work(folder: str) -> None:
    """Write the process ids to `pids`, wait until the file `go` exists, then create the file `done`."""
    partial = Path(folder) / "partial"
    partial.write_text(f"{os.getpid()} {os.getppid()}")
    partial.rename(Path(folder) / "pids")
    while not (Path(folder) / "go").exists():
        time.sleep(0.02)
    (Path(folder) / "done").touch()


def main(grace: float) -> None:
    """Run the supervisor with short intervals, and polls with a deadline longer than any test."""
    vars(jobs)["RegistryClient"] = partial(RegistryClient, deadline=600.0)
    jobs.NAMES.update({f"{PREFIX}.note", f"{PREFIX}.long_work"})
    rq_worker.HEARTBEAT_SECONDS = 1
    worker.Supervisor.NODE_REFRESH_SECONDS = 0.2
    context = current_context()
    logs.configure(context.settings)
    worker.Supervisor(context, grace).run()


if __name__ == "__main__":
    main(float(sys.argv[1]))
