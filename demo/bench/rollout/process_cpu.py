"""Processor time of a process with all its descendants. Used by the benchmarks of whole platforms."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_FIRST_TIME = 11
"""Position after the name in `/proc/PID/stat`. Four times follow: own and of ended children, as user and system."""


def read_cpu_seconds(process: int) -> float:
    """Return the seconds that a process, its children and their ended children have used."""
    seconds = 0.0
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        seconds = sum(map(int, fields[_FIRST_TIME : _FIRST_TIME + 4])) / os.sysconf("SC_CLK_TCK")
        seconds += sum(map(read_cpu_seconds, _list_children(process)))
    return seconds


def find_parent(process: int) -> int:
    """Return the id of the parent of a process."""
    return int((_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[1])


def _list_children(process: int) -> list[int]:
    tasks = (_PROC / str(process) / "task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
