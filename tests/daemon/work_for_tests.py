"""`python -m tests.daemon.work_for_tests GRACE`: the real supervisor, which also takes the jobs below."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from daemon import jobs, worker
from daemon.context import current_context
from portal import logs

PREFIX = "tests.daemon.work_for_tests"


def note(file: str) -> None:
    """Leave a file as a sign of having run."""
    Path(file).touch()


def long_work(folder: str) -> None:
    """Write down who works, go on until the file `go` appears, then leave the file `done`."""
    part = Path(folder) / "part"
    part.write_text(f"{os.getpid()} {os.getppid()}")
    part.rename(Path(folder) / "pids")
    while not (Path(folder) / "go").exists():
        time.sleep(0.02)
    (Path(folder) / "done").touch()


def main(grace: float) -> None:
    """Run the supervisor, quick to notice things."""
    jobs.NAMES.update({f"{PREFIX}.note", f"{PREFIX}.long_work"})
    worker.HEARTBEAT_SECONDS = 1
    worker.Supervisor.LOOK_FOR_NODES_EVERY = 0.2
    context = current_context()
    logs.configure(context.settings)
    worker.Supervisor(context, grace).run()


if __name__ == "__main__":
    main(float(sys.argv[1]))
