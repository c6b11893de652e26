"""The damage that a release with a broken migration does to its volumes. A rollback must undo all of it."""

import os
from contextlib import suppress
from pathlib import Path


def corrupt_volumes(*volumes: Path) -> None:
    """Overwrite and delete files, change their modes, owners and times, and add files."""
    for volume in volumes:
        files = sorted(path for path in volume.rglob("*") if path.is_file() and not path.is_symlink())
        for number, path in enumerate(files):
            _corrupt_file(path, delete=number % 2 == 1)
        (volume / "half-migrated").mkdir(exist_ok=True)
        (volume / "half-migrated" / "leftover.tmp").write_bytes(os.urandom(4096))
        volume.chmod(0o777)


def _corrupt_file(path: Path, *, delete: bool) -> None:
    if delete:
        path.unlink()
        return
    path.write_bytes(b"this was your data")
    path.chmod(0o666)
    os.utime(path, (0, 0))
    with suppress(PermissionError):  # a container may lack the right to change owners
        os.chown(path, 12345, 12345)
