"""Snapshots: whole and verified archives of volumes, and the way back from them.

A helper container on the bot's own node does the work, so volumes and archives never leave that machine. It has
no network and GNU tar, because busybox loses times of folders, nanoseconds, large user ids, extended attributes and
sparseness. Nothing here decides when a volume may be emptied: callers do that only for a verified archive.
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
from daemon.engine.labels import UPDATE_LABEL, container_name, is_helper
from daemon.snapshots import helper_containers, scripts
from daemon.snapshots.helper_containers import HelperFailed, HelperTask

# A disk slower than this is taken for hanging. Every byte is read and written up to three times.
_BYTES_PER_SECOND = 4_000_000
_LEAST_SECONDS = 120
# Nobody knows yet how much there is to look at, and the bot serves meanwhile.
_MEASURING_SECONDS = 1800


class SnapshotFailed(HelperFailed):
    """There is no archive one could rely on, so there must be no update."""


class RestoreFailed(HelperFailed):
    """A volume is not as it was; its archive still is, and restoring may be tried again from the beginning."""


@dataclass(frozen=True)
class ArchiveInfo:
    """A verified archive.

    Attributes:
        path: where it is on the node's disk.
        size: of the archive, in bytes.
        entries: files, folders and so on in it, the root folder included, sockets excepted.
        sha256: of the archive, in hex.
    """

    path: str
    size: int
    entries: int
    sha256: str


class SnapshotHelper:
    """The helper containers of one update on one node.

    Args:
        engine: the node's engine.
        image: reference or id of the image they run; see `require_image`.
        labels: put on every container; `flotilla.update` is added.
        update_id: the update whose name they bear.
        renew_or_raise: called before each helper starts; raises when this worker may not go on.
    """

    def __init__(
        self,
        engine: docker.APIClient,
        image: str,
        labels: Mapping[str, str],
        update_id: str,
        renew_or_raise: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine = engine
        self._image = image
        self._labels = {**labels, UPDATE_LABEL: update_id}
        self._still_mine = renew_or_raise
        self.update_id = update_id

    def require_image(self) -> str:
        """Pull the image if the node lacks it, check its programs, and return its id, which is used from now on.

        To be done before a bot is stopped. The allowlist does not concern this image, which the operator's own
        setting names.

        Raises:
            HelperFailed: the image lacks a program or does not run.
            PullFailed: it cannot be had.
        """
        if not self.is_there():
            pull(self._engine, self._image, None)
        self._image = str(self._engine.inspect_image(self._image)["Id"])  # type: ignore[no-untyped-call]
        self._run("probe", scripts.CHECK)
        return self._image

    def is_there(self) -> bool:
        """Whether the node has the image."""
        try:
            self._engine.inspect_image(self._image)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
        return True

    def measure(self, volumes: Sequence[str]) -> int:
        """How many bytes archives of these volumes may take together; a little more than they will.

        They may be in use: what comes or goes meanwhile does no harm.

        Raises:
            HelperFailed: a volume does not exist, or the helper failed.
        """
        mounts = [
            helper_containers.volume_mount(self._engine, volume, f"/volumes/{number}", read_only=True)
            for number, volume in enumerate(volumes)
        ]
        if not mounts:
            return 0
        return int(self._run("probe", scripts.MEASURE, mounts=mounts, seconds=_MEASURING_SECONDS)["size"])

    def free_space(self, folder: str) -> int:
        """How many bytes are free on the node's disk where `folder` is; the folder is made if it is missing.

        Raises:
            HelperFailed: the helper failed.
        """
        return int(self._run("probe", scripts.FREE_SPACE, folder=folder)["free"])

    def archive(self, n: int, volume: str, folder: str, file: str, size: int = 0) -> ArchiveInfo:
        """Write a volume into `folder`/`file` on the node's disk, and check that everything is in it.

        The writer of the volume must have been stopped. An archive of that name is replaced, once the new one is
        whole.

        Args:
            n: number of the volume within the update, which names the helper.
            volume: name of the volume, mounted read-only.
            folder: absolute path on the node.
            file: name of the archive in it.
            size: bytes that `measure` told, for the deadline grows with them.

        Raises:
            SnapshotFailed: no archive was made.
        """
        try:
            mount = helper_containers.volume_mount(self._engine, volume, "/volume", read_only=True)
            result = self._run(
                f"snap-{n}", scripts.ARCHIVE, [file], mounts=[mount], folder=folder, seconds=_deadline(size)
            )
        except HelperFailed as error:
            raise SnapshotFailed(f"no snapshot of volume {volume}: {error}") from error
        return ArchiveInfo(f"{folder.rstrip('/')}/{file}", result["size"], result["entries"], result["sha256"])

    def restore(self, n: int, volume: str, path: str, sha256: str, size: int = 0) -> None:
        """Bring a volume back to what its archive says: emptied, extracted, compared.

        The archive's checksum is compared first; on a mismatch the volume is left as it is. Nothing may use the
        volume meanwhile.

        Args:
            n: number of the volume within the update, which names the helper.
            volume: name of the volume.
            path: the archive on the node's disk.
            sha256: checksum from when it was written.
            size: bytes of the archive, for the deadline grows with them.

        Raises:
            RestoreFailed: with the reason; unless it says so, the volume may be half empty.
        """
        archive = PurePosixPath(path)
        try:
            mount = helper_containers.volume_mount(self._engine, volume, "/volume", read_only=False)
            self._run(
                f"restore-{n}",
                scripts.RESTORE,
                [archive.name, sha256],
                mounts=[mount],
                folder=str(archive.parent),
                read_only=True,
                seconds=_deadline(size),
            )
        except HelperFailed as error:
            raise RestoreFailed(f"volume {volume} was not restored from {path}: {error}") from error

    def delete(self, paths: Iterable[str]) -> None:
        """Delete archives, and what a broken attempt to write them left; missing ones are fine.

        Raises:
            HelperFailed: the helper failed.
        """
        folders: dict[str, list[str]] = defaultdict(list)
        for path in map(PurePosixPath, paths):
            folders[str(path.parent)].append(path.name)
        for folder, files in folders.items():
            self._run("delete", scripts.DELETE, files, folder=folder)

    def end_all(self) -> None:
        """End and remove every helper of this update that a dead worker left at work."""
        label = f"{UPDATE_LABEL}={self.update_id}"
        for container in self._engine.containers(all=True, filters={"label": label}):
            # The bot itself bears that label too.
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
        seconds: float = _LEAST_SECONDS,
    ) -> dict[str, Any]:
        task = HelperTask(container_name(self.update_id, role), script, seconds, arguments, mounts, folder, read_only)
        return helper_containers.run_helper(self._engine, self._image, self._labels, task, self._still_mine)


def _deadline(size: int) -> float:
    return _LEAST_SECONDS + size / _BYTES_PER_SECOND
