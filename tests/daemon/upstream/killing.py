"""Run a sync in a child process that kills itself with SIGKILL at a chosen step. Used by the crash tests."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from datetime import date
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from daemon.upstream.repository import git as git_module
from daemon.upstream.repository import journal as journal_module
from daemon.upstream.sync import Mode, SyncOptions, sync

CHANGING = {"fetch", "worktree", "cherry-pick", "reset", "commit-tree", "read-tree", "update-ref", "push"}
"""Git commands that change a repository, apart from those that only add objects without a name."""

TODAY = date(2026, 3, 14)
_forkserver = get_context("forkserver")


class Moment(Enum):
    """When the process dies, relative to a step."""

    DURING = "during"
    AFTER = "after"


class _Killer:
    """Counts the steps and kills the process at one of them."""

    def __init__(self, step: int, moment: Moment) -> None:
        self.left = step
        self.moment = moment

    def due(self) -> bool:
        """Count a step and return whether it is the chosen one."""
        self.left -= 1
        return self.left == 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _patch_git(killer: _Killer) -> None:
    original = subprocess.run

    def run(command: list[str], *arguments: Any, **options: Any) -> Any:
        subcommand = next(
            part for part, before in zip(command[1:], command, strict=False) if part != "-c" and before != "-c"
        )
        if subcommand not in CHANGING or not killer.due():
            return original(command, *arguments, **options)
        if killer.moment is Moment.AFTER:
            original(command, *arguments, **options)
            _die()
        stdin = options.pop("input", None)
        for name in ("capture_output", "check", "timeout"):
            options.pop(name, None)
        options |= {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, *arguments, **options)
        assert process.stdin is not None
        process.stdin.write(stdin or b"")
        process.stdin.close()
        _die()
        return None

    git_module.subprocess.run = run  # type: ignore[attr-defined]


def _patch_journal(killer: _Killer) -> None:
    original: Callable[..., None] = journal_module.Journal._write

    def write(self: journal_module.Journal, name: str, record: Any) -> None:
        due = killer.due()
        if due and killer.moment is not Moment.AFTER:
            _die()
        original(self, name, record)
        if due:
            _die()

    journal_module.Journal._write = write  # type: ignore[method-assign]


def _sync(path: str, mode: str, step: int, moment: Moment, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    killer = _Killer(step, moment)
    _patch_git(killer)
    _patch_journal(killer)
    sync(Path(path), SyncOptions(Mode[mode], today=TODAY))


def sync_and_die(path: Path, mode: Mode, step: int, moment: Moment) -> bool:
    """Sync in a child process that dies at a step.

    Returns:
        Whether the process died. False means that the sync has fewer steps and succeeded.
    """
    environment = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    child = _forkserver.Process(target=_sync, args=(str(path), mode.name, step, moment, environment))
    child.start()
    child.join(120)
    assert child.exitcode in {0, -signal.SIGKILL}, child.exitcode
    return child.exitcode != 0
