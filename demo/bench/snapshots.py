"""Benchmark of archiving and restoring a volume. Used by `demo.bench.__main__`."""

from __future__ import annotations

import time
from pathlib import Path

from daemon.snapshots.archives import SnapshotHelper, VolumeSizes
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table
from demo.bench.volumes import SIZES, fill
from portal.models import new_id


def measure(environment: BenchEnvironment) -> Table:
    """Measure archiving everything in one pass and restoring everything, with all checks of an update."""
    table = Table(
        "Snapshot and restore of one volume",
        ("data", "snapshot", "MB/s", "restore", "MB/s"),
        note="Both include the start of the helper and the checksums; the restore also compares volume and archive.",
    )
    table.rows.extend(_measure_size(environment, megabytes) for megabytes in SIZES)
    return table


def _measure_size(environment: BenchEnvironment, megabytes: int) -> tuple[str, ...]:
    helper = SnapshotHelper(environment.engine, environment.settings.snapshot_image, {}, new_id())
    helper.require_image()
    volume = f"bench-volume-{megabytes}"
    environment.engine.create_volume(volume)
    fill(environment.engine, volume, megabytes)
    started = time.perf_counter()
    [archive] = helper.take_in_one_pass([volume], str(environment.folder / "archives"), VolumeSizes())
    archived_at = time.perf_counter()
    root = Path(environment.engine.inspect_volume(volume)["Mountpoint"])
    for path in root.iterdir():
        path.touch()  # so that the restore extracts everything
    touched_at = time.perf_counter()
    helper.restore([archive])
    ended = time.perf_counter()
    helper.delete([archive.path])
    environment.engine.remove_volume(volume)
    return (
        f"{megabytes} MB",
        *_format_speed(megabytes, archived_at - started),
        *_format_speed(megabytes, ended - touched_at),
    )


def _format_speed(megabytes: int, seconds: float) -> tuple[str, str]:
    return f"{seconds:.1f} s", f"{megabytes / seconds:.0f}"
