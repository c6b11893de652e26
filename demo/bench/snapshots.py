"""How fast volumes are saved and restored."""

from __future__ import annotations

import time

from daemon.snapshots.archives import SnapshotHelper
from demo.bench.place import BenchEnvironment
from demo.bench.tables import Table
from demo.bench.volumes import SIZES, fill
from portal.models import new_id


def measure(place: BenchEnvironment) -> Table:
    """Archive a volume and restore it, both with every check an update does."""
    table = Table(
        "Snapshot and restore of one volume",
        ("data", "snapshot", "MB/s", "restore", "MB/s"),
        note="Both include starting the helper container, checksums, and comparing what was written.",
    )
    table.rows.extend(_row(place, megabytes) for megabytes in SIZES)
    return table


def _row(place: BenchEnvironment, megabytes: int) -> tuple[str, ...]:
    helper = SnapshotHelper(place.engine, place.settings.snapshot_image, {}, new_id())
    helper.require_image()
    volume = f"bench-volume-{megabytes}"
    place.engine.create_volume(volume)
    fill(place.engine, volume, megabytes)
    began = time.perf_counter()
    archived = helper.archive(1, volume, str(place.folder / "archives"), f"{volume}.tar")
    between = time.perf_counter()
    helper.restore(1, volume, archived.path, archived.sha256)
    ended = time.perf_counter()
    helper.delete([archived.path])
    place.engine.remove_volume(volume)
    return (f"{megabytes} MB", *_speed(megabytes, between - began), *_speed(megabytes, ended - between))


def _speed(megabytes: int, seconds: float) -> tuple[str, str]:
    return f"{seconds:.1f} s", f"{megabytes / seconds:.0f}"
