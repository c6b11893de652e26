"""Volumes filled with incompressible files, some of which change. Used by the benchmarks of updates and snapshots."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

SIZES = (1, 100, 500)
"""Amounts of data that are measured, in megabytes."""

_MEGABYTE = 1_000_000
_FOLDER_FILES = 500
_CHANGE_SECONDS = 0.5


@dataclass(frozen=True)
class Workload:
    """The files of a bot.

    Attributes:
        title: for the table.
        files: number of files.
        size: size of each file in bytes.
        changing: how many of the files the bot rewrites all the time.
    """

    title: str
    files: int = 0
    size: int = _MEGABYTE
    changing: int = 0

    def fill(self, root: Path) -> None:
        """Write the files into a folder."""
        for number in range(self.files):
            path = self._path(root, number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(self.size))
        os.sync()  # pending writes of the kernel would slow down the next measurement

    @contextmanager
    def rewritten(self, root: Path, is_running: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Rewrite the changing files again and again for the duration of a `with` block, while the bot runs."""
        ended = threading.Event()

        def rewrite() -> None:
            while not ended.is_set() and is_running():
                for number in range(self.changing):
                    with self._path(root, number).open("r+b") as file:
                        file.write(os.urandom(self.size))
                ended.wait(_CHANGE_SECONDS)

        writer = threading.Thread(target=rewrite)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()

    @staticmethod
    def _path(root: Path, number: int) -> Path:
        return root / f"folder{number // _FOLDER_FILES}" / f"{number}.bin"


def root_of(engine: docker.APIClient, volume: str) -> Path:
    """Return the folder of a volume on this machine."""
    return Path(engine.inspect_volume(volume)["Mountpoint"])


def fill(engine: docker.APIClient, volume: str, megabytes: int) -> None:
    """Write `megabytes` files of one megabyte each into a volume."""
    Workload("", megabytes).fill(root_of(engine, volume))
