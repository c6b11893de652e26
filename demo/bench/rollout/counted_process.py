"""The command `python -m demo.bench.rollout.counted_process NAME FILE`: run a process and count its statements.

Runs a process of the `flotilla` command. Each SQL statement of it and its children adds one byte to the file. Used by
`fake_platform`.
"""

from __future__ import annotations

import os
import sys

import sqlalchemy as sa
from sqlalchemy import event

from daemon.cli import main

if __name__ == "__main__":
    process, file = sys.argv[1:]
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    event.listen(sa.Engine, "before_cursor_execute", lambda *_: os.write(descriptor, b"."))
    sys.argv = ["flotilla", process]
    main()
