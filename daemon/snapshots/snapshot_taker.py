"""The snapshots of one update, taken in two passes by one helper that waits between them. Used by the update steps.

The helper is created and started while the bot still runs, so that the downtime contains only the second pass. It
ends automatically when its worker does not continue. If it fails, another helper archives everything in one pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docker.errors import APIError

from daemon.snapshots import helper_containers
from daemon.snapshots.archives import Archive, SnapshotHelper, VolumeSizes, list_paths, read_archives
from daemon.snapshots.helper_containers import HelperFailed, HelperTask
from daemon.snapshots.snapshot_script import SNAPSHOT

logger = logging.getLogger(__name__)

_CPU_SHARES_WHILE_SERVING = 64
_CPU_SHARES = 1024
_INSPECTION_SECONDS = 1800
"""The sizes are not known yet, and the bot keeps running while they are measured."""
_TAKE_BASES, _TAKE_SNAPSHOTS = "SIGUSR1", "SIGUSR2"
"""Two signals, so that a repeated one never starts the second pass while the bot runs."""


@dataclass(frozen=True)
class Inspection:
    """What the helper found before the bot is stopped.

    Attributes:
        sizes: total sizes of the volumes.
        free: free bytes on the disk of the archives.
    """

    sizes: VolumeSizes
    free: int


class SnapshotTaker:
    """Takes the snapshots of an update. Call the methods in their order.

    The helper ends after the last one; `SnapshotHelper.remove_all_helpers` removes it.

    Args:
        helper: the helper containers of the update.
        volumes: names of the volumes.
        folder: absolute path of the folder of the archives on the node.
    """

    def __init__(self, helper: SnapshotHelper, volumes: Sequence[str], folder: str) -> None:
        self._helper = helper
        self._volumes = volumes
        self._folder = folder
        self._sizes = VolumeSizes()
        self._container = ""

    @property
    def paths(self) -> Mapping[str, str]:
        """Paths of the archives on the node's disk by volume."""
        return dict(
            zip(self._volumes, list_paths(self._folder, self._helper.update_id, len(self._volumes)), strict=True)
        )

    def inspect(self) -> Inspection:
        """Start the helper, measure the volumes, and refuse entries that could not be restored.

        Raises:
            HelperFailed: the helper or the volumes are not suitable.
        """
        task = HelperTask(
            self._helper.name("snapshots"),
            SNAPSHOT,
            _INSPECTION_SECONDS,
            ["two", self._helper.update_id, str(len(self._volumes))],
            self._helper.volume_mounts(self._volumes, "/volumes", read_only=True),
            self._folder,
            cpu_shares=_CPU_SHARES_WHILE_SERVING,
            capabilities=self._helper.capabilities,
        )
        self._container = helper_containers.create_helper(
            self._helper.engine, self._helper.image, self._helper.labels, task
        )
        helper_containers.start_helper(self._helper.engine, self._container, self._helper.renew_or_raise)
        try:
            found = self._read_line(1, _INSPECTION_SECONDS)
        except HelperFailed as error:
            raise type(error)(self._name_volumes(str(error))) from error
        self._sizes = VolumeSizes(found["size"], found["apparent_size"])
        return Inspection(self._sizes, found["free"])

    def take_bases(self) -> None:
        """Write the bases of all volumes while the bot runs, at a low priority.

        Without bases the update takes longer, so a failure is only logged.
        """
        if not self._container:
            return
        try:
            self._signal(_TAKE_BASES)
            self._read_line(2, self._sizes.deadline)
            self._helper.engine.update_container(self._container, cpu_shares=_CPU_SHARES)
        except (HelperFailed, APIError) as error:
            logger.warning("update %s takes its snapshots in one pass: %s", self._helper.update_id, error)
            self._remove_helper()

    def take_snapshots(self) -> list[Archive]:
        """Complete and verify the archives of all volumes. The container that writes to them must be stopped.

        Raises:
            SnapshotFailed: there are no complete archives.
        """
        if self._container:
            try:
                return self._complete()
            except (HelperFailed, APIError) as error:
                logger.warning("update %s takes its snapshots again, in one pass: %s", self._helper.update_id, error)
                self._remove_helper()
        return self._helper.take_in_one_pass(self._volumes, self._folder, self._sizes)

    def _remove_helper(self) -> None:
        helper_containers.remove_helper(self._helper.engine, self._container)
        self._container = ""

    def _complete(self) -> list[Archive]:
        self._signal(_TAKE_SNAPSHOTS)
        result = self._read_line(3, self._sizes.deadline)
        return read_archives(result, self._volumes, list(self.paths.values()))

    def _name_volumes(self, message: str) -> str:
        """Replace the folders where the helper sees the volumes by the names of the volumes."""
        for number, volume in enumerate(self._volumes, start=1):
            message = message.replace(f"/volumes/{number}/", f"{volume}:/")
        return message

    def _signal(self, signal: str) -> None:
        self._helper.renew_or_raise()
        try:
            self._helper.engine.kill(self._container, signal)
        except APIError as error:
            # The helper has ended. If an earlier call had no answer, its log has the result.
            if error.status_code not in {404, 409}:
                raise

    def _read_line(self, number: int, seconds: float) -> Any:
        return helper_containers.wait_for_line(self._helper.engine, self._container, number, seconds)
