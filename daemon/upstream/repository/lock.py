"""The lock that lets one process at a time sync a repository. Used by `sync`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from daemon.upstream.errors import SyncRefused
from daemon.upstream.repository.git import Git

# A git command that outlived its killed parent holds the lock until it ends, usually for less than a second.
PATIENCE_SECONDS = 5.0


@contextmanager
def locked(git: Git, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Git]:
    """Hold the repository's lock.

    The kernel releases it when the process and the local git commands it started have ended.

    Args:
        git: The repository.
        patience_seconds: How long to wait for another process.

    Yields:
        The repository; its local git commands hold the lock, too.

    Raises:
        SyncRefused: if another process holds the lock.
    """
    folder = git.git_dir / "flotilla"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, time.monotonic() + patience_seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield replace(git, inherited=(descriptor,))
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
                raise SyncRefused(f"Another sync runs in this repository (process {holder}).") from error
            time.sleep(0.1)
        else:
            return
