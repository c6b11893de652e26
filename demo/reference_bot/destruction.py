"""What a release with a broken migration does to its data: everything a rollback must undo."""

import os
from contextlib import suppress
from pathlib import Path


def destroy(*volumes: Path) -> None:
    """Overwrite, delete, and change modes, owners and times of files, and leave things behind."""
    for volume in volumes:
        files = sorted(path for path in volume.rglob("*") if path.is_file() and not path.is_symlink())
        for number, path in enumerate(files):
            _damage(path, delete=number % 2 == 1)
        (volume / "half-migrated").mkdir(exist_ok=True)
        (volume / "half-migrated" / "leftover.tmp").write_bytes(os.urandom(4096))
        volume.chmod(0o777)


def _damage(path: Path, *, delete: bool) -> None:
    if delete:
        path.unlink()
        return
    path.write_bytes(b"this was your data")
    path.chmod(0o666)
    os.utime(path, (0, 0))
    with suppress(PermissionError):  # where the container may not change owners the rest is damage enough
        os.chown(path, 12345, 12345)
