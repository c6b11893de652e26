"""Volumes filled with incompressible files. Used by the benchmarks of updates and snapshots."""

from __future__ import annotations

import os
from pathlib import Path

import docker

SIZES = (1, 100, 500)
"""Amounts of data that are measured, in megabytes."""

_MEGABYTE = 1_000_000


def fill(engine: docker.APIClient, volume: str, megabytes: int) -> None:
    """Write `megabytes` files of one megabyte each into a volume."""
    root = Path(engine.inspect_volume(volume)["Mountpoint"])
    for number in range(megabytes):
        (root / f"{number}.bin").write_bytes(os.urandom(_MEGABYTE))
    os.sync()  # pending writes of the kernel would slow down the next measurement
