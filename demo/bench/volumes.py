"""Data to save: files that no archive program can make smaller."""

from __future__ import annotations

import os
from pathlib import Path

import docker

SIZES = (1, 100, 500)
"""How much data is measured, in megabytes."""

_MEGABYTE = 1_000_000


def fill(engine: docker.APIClient, volume: str, megabytes: int) -> None:
    """Put so many files of one megabyte each into a volume."""
    root = Path(engine.inspect_volume(volume)["Mountpoint"])
    for number in range(megabytes):
        (root / f"{number}.bin").write_bytes(os.urandom(_MEGABYTE))
    os.sync()  # what the kernel has yet to write would slow down whatever is measured next
