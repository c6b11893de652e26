"""Archives of volumes: take, restore and delete with one helper each. Used by updates, purge and the node check.

A helper container on the bot's node does the work, so that volumes and archives stay on that machine. The helper has
no network. It uses GNU tar, because busybox loses times of folders, nanoseconds, large user ids, extended attributes
and sparseness. The scripts decide when an archive is complete. Callers restore a volume only from a verified archive.
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
from daemon.snapshots.restore_script import RESTORE
from daemon.snapshots.snapshot_script import SNAPSHOT

ALGORITHM = "blake2b-256"
"""The algorithm of the checksums of new archives."""
FILE_ALGORITHM = "sha256"
"""The algorithm of earlier versions, whose archives were single files."""

# The deadline assumes at least these speeds. Every byte is read and written up to three times. Holes of sparse files
# are not written, but a comparison reads them.
_BYTES_PER_SECOND = 4_000_000
_HOLE_BYTES_PER_SECOND = 50_000_000
_MIN_SECONDS = 120


class SnapshotFailed(HelperFailed):
    """There is no verified archive, so the update must not continue."""


class RestoreFailed(HelperFailed):
    """A volume was not restored. Its archive is unchanged, and the restore may be repeated from the beginning."""


@dataclass(frozen=True)
class VolumeSizes:
    """Sizes in bytes, for deadlines and the required space.

    Attributes:
        used: upper estimate of the size of an archive.
        apparent: size with the holes of sparse files.
    """

    used: int = 0
    apparent: int = 0

    @property
    def deadline(self) -> float:
        """Time limit in seconds for archiving or restoring this much."""
        holes = max(0, self.apparent - self.used)
        return _MIN_SECONDS + self.used / _BYTES_PER_SECOND + holes / _HOLE_BYTES_PER_SECOND


@dataclass(frozen=True)
class Archive:
    """A verified archive of a volume.

    Attributes:
        volume: name of the volume.
        path: path on the node's disk: a folder, or one file if an earlier version of Flotilla wrote it.
        checksum: algorithm and digest in hex, such as `blake2b-256:…`, of the file `sums` or of the one file.
        size: size of the archive in bytes.
        entries: number of entries, including the root folder, without sockets.
    """

    volume: str
    path: str
    checksum: str
    size: int = 0
    entries: int = 0

    @property
    def is_file(self) -> bool:
        """Whether an earlier version of Flotilla wrote this archive as one file."""
        return self.checksum.startswith(f"{FILE_ALGORITHM}:")

    @property
    def digest(self) -> str:
        """The checksum without its algorithm."""
        return self.checksum.partition(":")[2]


class SnapshotHelper:
    """The helper containers of one update on one node.

    Args:
        engine: the node's engine.
        image: reference or id of the helper image; see `require_image`.
        labels: labels of every helper; `flotilla.update` is added.
        update_id: the update, which is part of the names of its helpers.
        renew_or_raise: called before each helper starts; raises when the bot's lease was lost.
        fence: fence of the bot's lease, which is part of the names, too; 0 where no bot is concerned.
        capabilities: what the helpers need besides the capabilities of all helpers; see `choose_capabilities`.
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
        capabilities: Sequence[str] = (),
    ) -> None:
        self.engine = engine
        self.image = image
        self.labels = {**labels, UPDATE_LABEL: update_id}
        self.renew_or_raise = renew_or_raise
        self.update_id = update_id
        self.capabilities = capabilities
        self._fence = fence

    def pull_image(self) -> str:
        """Pull the helper image if the node lacks it, use its id from now on, and return the id.

        Call this before a bot is stopped. The allowlist does not apply to this image, which the operator configures.

        Raises:
            PullFailed: the image cannot be pulled.
        """
        try:
            found = self.engine.inspect_image(self.image)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            found = pull(self.engine, self.image, None)
        self.image = str(found["Id"])
        return self.image

    def require_image(self) -> str:
        """Pull the helper image if the node lacks it, check its programs, and return its id.

        Raises:
            HelperFailed: the image lacks a program or does not run.
            PullFailed: the image cannot be pulled.
        """
        image = self.pull_image()
        self._run("probe", archive_scripts.CHECK)
        return image

    def has_image(self) -> bool:
        """Return whether the node has the helper image."""
        try:
            self.engine.inspect_image(self.image)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
        return True

    def name(self, role: str) -> str:
        """Return the name of the helper with this role."""
        return helper_name(self.update_id, role, self._fence)

    def free_space(self, folder: str) -> int:
        """Return the free bytes on the node's disk that holds `folder`. The engine creates a missing folder.

        Raises:
            HelperFailed: the helper failed.
        """
        return int(self._run("probe", archive_scripts.FREE_SPACE, folder=folder)["free"])

    def take_in_one_pass(self, volumes: Sequence[str], folder: str, sizes: VolumeSizes) -> list[Archive]:
        """Archive volumes completely and verify the archives.

        The container that writes to the volumes must be stopped. Earlier archives of this update are deleted first.

        Args:
            volumes: names of the volumes, which are mounted read-only.
            folder: absolute path on the node.
            sizes: total sizes of the volumes, for the deadline.

        Raises:
            SnapshotFailed: an archive was not written.
        """
        try:
            result = self._run(
                "snapshots",
                SNAPSHOT,
                ["one", self.update_id, str(len(volumes))],
                mounts=self.volume_mounts(volumes, "/volumes", read_only=True),
                folder=folder,
                seconds=sizes.deadline,
            )
        except HelperFailed as error:
            raise SnapshotFailed(f"Snapshot of the volumes failed: {error}") from error
        return read_archives(result, volumes, list_paths(folder, self.update_id, len(volumes)))

    def restore(
        self, archives: Sequence[Archive], sizes: VolumeSizes | None = None, *, compare_all: bool = False
    ) -> None:
        """Restore volumes from their archives and compare them.

        The checksums of an archive are verified first; if one differs, the volume is not changed. No container may
        use the volumes during the restore. What did not change since the snapshot stays as it is.

        Args:
            archives: the archives of all volumes, which are in the same folder.
            sizes: total sizes of the volumes, for the deadline.
            compare_all: also compare the contents of what did not change.

        Raises:
            RestoreFailed: with the reason. Unless the reason says otherwise, a volume may be incomplete.
        """
        sizes = sizes or VolumeSizes(sum(archive.size for archive in archives))
        try:
            for archive in archives:
                if archive.is_file:
                    self._restore_from_file(archive, sizes)
            if folders := [archive for archive in archives if not archive.is_file]:
                self._restore_from_folders(folders, sizes, compare_all=compare_all)
        except HelperFailed as error:
            volumes = ", ".join(archive.volume for archive in archives)
            raise RestoreFailed(f"Restore of {volumes} failed: {error}") from error

    def delete(self, paths: Iterable[str]) -> None:
        """Delete archives, including partially written ones. Missing archives are ignored.

        Raises:
            HelperFailed: the helper failed.
        """
        folders: dict[str, list[str]] = defaultdict(list)
        for path in map(PurePosixPath, paths):
            folders[str(path.parent)].append(path.name)
        for folder, names in folders.items():
            self._run("delete", archive_scripts.DELETE, names, folder=folder)

    def remove_all_helpers(self) -> None:
        """Remove every helper of this update that a worker which died left running."""
        label = f"{UPDATE_LABEL}={self.update_id}"
        for container in self.engine.containers(all=True, filters={"label": label}):
            # The bot's own container has the same label.
            if any(is_helper(name.lstrip("/")) for name in container["Names"]):
                helper_containers.remove_helper(self.engine, container["Id"])

    def volume_mounts(self, volumes: Sequence[str], folder: str, *, read_only: bool) -> list[docker.types.Mount]:
        """Return mounts of existing volumes at 1, 2 … in `folder`.

        Raises:
            HelperFailed: a volume does not exist.
        """
        return [
            helper_containers.volume_mount(self.engine, volume, f"{folder}/{number}", read_only=read_only)
            for number, volume in enumerate(volumes, start=1)
        ]

    def _restore_from_folders(self, archives: Sequence[Archive], sizes: VolumeSizes, *, compare_all: bool) -> None:
        pairs = [(PurePosixPath(archive.path).name, archive.digest) for archive in archives]
        self._run(
            "restore",
            RESTORE,
            ["all" if compare_all else "changed", *(argument for pair in pairs for argument in pair)],
            mounts=self.volume_mounts([archive.volume for archive in archives], "/volumes", read_only=False),
            folder=str(PurePosixPath(archives[0].path).parent),
            read_only=True,
            seconds=sizes.deadline,
        )

    def _restore_from_file(self, archive: Archive, sizes: VolumeSizes) -> None:
        path = PurePosixPath(archive.path)
        self._run(
            "restore",
            archive_scripts.RESTORE_FILE,
            [path.name, archive.digest],
            mounts=[helper_containers.volume_mount(self.engine, archive.volume, "/volume", read_only=False)],
            folder=str(path.parent),
            read_only=True,
            seconds=sizes.deadline,
        )

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
    ) -> Any:
        task = HelperTask(
            self.name(role),
            script,
            seconds,
            arguments,
            mounts,
            folder,
            read_only,
            capabilities=self.capabilities,
        )
        return helper_containers.run_helper(self.engine, self.image, self.labels, task, self.renew_or_raise)


def choose_capabilities(container: Mapping[str, Any]) -> list[str]:
    """Return the capabilities that helpers need to archive and restore everything that a bot could have written.

    Only a process with `SYS_ADMIN` sees attributes of the namespace `trusted`, so only such a bot can have set them.

    Args:
        container: the engine's description of the bot's container.
    """
    host = container["HostConfig"]
    added = {name.upper().removeprefix("CAP_") for name in host.get("CapAdd") or []}
    return ["SYS_ADMIN"] if host.get("Privileged") or added & {"ALL", "SYS_ADMIN"} else []


def list_paths(folder: str, update_id: str, count: int) -> list[str]:
    """Return the paths of the archives of an update on the node's disk, in the order of its volumes."""
    return [f"{folder.rstrip('/')}/{update_id}-{number}" for number in range(1, count + 1)]


def read_archives(result: Sequence[Mapping[str, Any]], volumes: Sequence[str], paths: Sequence[str]) -> list[Archive]:
    """Return the archives that the script of a snapshot reported."""
    return [
        Archive(volume, path, f"{ALGORITHM}:{one['sum']}", one["size"], one["entries"])
        for volume, path, one in zip(volumes, paths, result, strict=True)
    ]
