"""Archives of volumes: measure, archive, verify, restore, delete. Used by updates, purge and `flotilla snapshots`.

A helper container on the bot's node does the work, so that volumes and archives stay on that machine. The helper has
no network. It uses GNU tar, because busybox loses times of folders, nanoseconds, large user ids, extended attributes
and sparseness. The scripts in `archive_scripts` decide when an archive is complete. Callers restore a volume only
from a verified archive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import docker
from docker.errors import ImageNotFound

from daemon.engine.client import pull
from daemon.engine.labels import UPDATE_LABEL, helper_name, is_helper
from daemon.snapshots import archive_scripts, helper_containers
from daemon.snapshots.helper_containers import HelperFailed, HelperTask

# The deadline assumes at least this speed. Every byte is read and written up to three times.
_BYTES_PER_SECOND = 4_000_000
_MIN_SECONDS = 120
# The size is not known yet, and the bot keeps running while it is measured.
_MEASURE_SECONDS = 1800


class SnapshotFailed(HelperFailed):
    """There is no verified archive, so the update must not continue."""


class RestoreFailed(HelperFailed):
    """A volume was not restored. Its archive is unchanged, and the restore may be repeated from the beginning."""


@dataclass(frozen=True)
class ArchiveInfo:
    """A verified archive.

    Attributes:
        path: path on the node's disk.
        size: size of the archive in bytes.
        entries: number of entries, including the root folder, without sockets.
        sha256: SHA-256 of the archive in hex.
    """

    path: str
    size: int
    entries: int
    sha256: str


class SnapshotHelper:
    """The helper containers of one update on one node.

    Args:
        engine: the node's engine.
        image: reference or id of the helper image; see `require_image`.
        labels: labels of every helper; `flotilla.update` is added.
        update_id: the update, which is part of the names of its helpers.
        renew_or_raise: called before each helper starts; raises when the bot's lease was lost.
        fence: fence of the bot's lease, which is part of the names, too; 0 where no bot is concerned.
    """

    def __init__(
        self,
        engine: docker.APIClient,
        image: str,
        labels: Mapping[str, str],
        update_id: str,
        renew_or_raise: Callable[[], object] = lambda: None,
        *,
        fence: int = 0,
    ) -> None:
        self._engine = engine
        self._image = image
        self._labels = {**labels, UPDATE_LABEL: update_id}
        self._renew_or_raise = renew_or_raise
        self._fence = fence
        self.update_id = update_id

    def require_image(self) -> str:
        """Pull the helper image if the node lacks it, check its programs, use its id from now on, and return the id.

        Call this before a bot is stopped. The allowlist does not apply to this image, which the operator configures.

        Raises:
            HelperFailed: the image lacks a program or does not run.
            PullFailed: the image cannot be pulled.
        """
        if not self.has_image():
            pull(self._engine, self._image, None)
        self._image = str(self._engine.inspect_image(self._image)["Id"])  # type: ignore[no-untyped-call]
        self._run("probe", archive_scripts.CHECK)
        return self._image

    def has_image(self) -> bool:
        """Return whether the node has the helper image."""
        try:
            self._engine.inspect_image(self._image)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
        return True

    def measure(self, volumes: Sequence[str]) -> int:
        """Return an upper estimate, in bytes, of the total size of archives of these volumes.

        The volumes may be in use: files that appear or vanish during the measurement do not make it fail.

        Raises:
            HelperFailed: a volume does not exist, or the helper failed.
        """
        mounts = [
            helper_containers.volume_mount(self._engine, volume, f"/volumes/{number}", read_only=True)
            for number, volume in enumerate(volumes)
        ]
        if not mounts:
            return 0
        return int(self._run("probe", archive_scripts.MEASURE, mounts=mounts, seconds=_MEASURE_SECONDS)["size"])

    def free_space(self, folder: str) -> int:
        """Return the free bytes on the node's disk that holds `folder`. The engine creates a missing folder.

        Raises:
            HelperFailed: the helper failed.
        """
        return int(self._run("probe", archive_scripts.FREE_SPACE, folder=folder)["free"])

    def archive(self, n: int, volume: str, folder: str, file: str, size: int = 0) -> ArchiveInfo:
        """Archive a volume into `folder`/`file` on the node's disk and verify the archive.

        The container that writes to the volume must be stopped. An existing archive of this name is replaced only by
        a complete one.

        Args:
            n: number of the volume within the update; part of the helper's name.
            volume: name of the volume, mounted read-only.
            folder: absolute path on the node.
            file: name of the archive in `folder`.
            size: size in bytes as returned by `measure`; the deadline grows with it.

        Raises:
            SnapshotFailed: no archive was written.
        """
        try:
            mount = helper_containers.volume_mount(self._engine, volume, "/volume", read_only=True)
            result = self._run(
                f"snap-{n}", archive_scripts.ARCHIVE, [file], mounts=[mount], folder=folder, seconds=_deadline(size)
            )
        except HelperFailed as error:
            raise SnapshotFailed(f"Snapshot of volume {volume} failed: {error}") from error
        return ArchiveInfo(f"{folder.rstrip('/')}/{file}", result["size"], result["entries"], result["sha256"])

    def restore(self, n: int, volume: str, path: str, sha256: str, size: int = 0) -> None:
        """Restore a volume from its archive: empty it, extract the archive, compare both.

        The checksum of the archive is verified first; if it differs, the volume is not changed. No container may use
        the volume during the restore.

        Args:
            n: number of the volume within the update; part of the helper's name.
            volume: name of the volume.
            path: path of the archive on the node's disk.
            sha256: checksum recorded when the archive was written.
            size: size of the archive in bytes; the deadline grows with it.

        Raises:
            RestoreFailed: with the reason. Unless the reason says otherwise, the volume may be incomplete.
        """
        archive = PurePosixPath(path)
        try:
            mount = helper_containers.volume_mount(self._engine, volume, "/volume", read_only=False)
            self._run(
                f"restore-{n}",
                archive_scripts.RESTORE,
                [archive.name, sha256],
                mounts=[mount],
                folder=str(archive.parent),
                read_only=True,
                seconds=_deadline(size),
            )
        except HelperFailed as error:
            raise RestoreFailed(f"Restore of volume {volume} from {path} failed: {error}") from error

    def delete(self, paths: Iterable[str]) -> None:
        """Delete archives, including partially written ones. Missing archives are ignored.

        Raises:
            HelperFailed: the helper failed.
        """
        folders: dict[str, list[str]] = defaultdict(list)
        for path in map(PurePosixPath, paths):
            folders[str(path.parent)].append(path.name)
        for folder, files in folders.items():
            self._run("delete", archive_scripts.DELETE, files, folder=folder)

    def remove_all_helpers(self) -> None:
        """Remove every helper of this update that a worker which died left running."""
        label = f"{UPDATE_LABEL}={self.update_id}"
        for container in self._engine.containers(all=True, filters={"label": label}):
            # The bot's own container has the same label.
            if any(is_helper(name.lstrip("/")) for name in container["Names"]):
                helper_containers.remove_helper(self._engine, container["Id"])

    def _run(
        self,
        role: str,
        script: str,
        arguments: Sequence[str] = (),
        *,
        mounts: Sequence[docker.types.Mount] = (),
        folder: str | None = None,
        read_only: bool = False,
        seconds: float = _MIN_SECONDS,
    ) -> dict[str, Any]:
        name = helper_name(self.update_id, role, self._fence)
        task = HelperTask(name, script, seconds, arguments, mounts, folder, read_only)
        return helper_containers.run_helper(self._engine, self._image, self._labels, task, self._renew_or_raise)


def _deadline(size: int) -> float:
    return _MIN_SECONDS + size / _BYTES_PER_SECOND
