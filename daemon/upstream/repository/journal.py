"""What the last sync did and what a sync is about to change, as files in ``.git``. Used by `sync`, `working_tree`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from daemon.upstream.repository.git import Git


@dataclass(frozen=True)
class Move:
    """A working tree that changes from one commit to another. Written before the change, removed after it."""

    branch: str
    old: str
    new: str


@dataclass(frozen=True)
class LastSync:
    """The result of the last sync on a branch.

    Attributes:
        branch: The branch that was synced.
        start: Commit the sync began with.
        upstream: Commit of upstream it moved the fork to.
        tip: Commit it produced.
        pushed: Commit on the pull request's branch, or None.
    """

    branch: str
    start: str
    upstream: str
    tip: str
    pushed: str | None = None


class Journal:
    """The files of the journal. A file is replaced as a whole or not at all.

    Args:
        git: The repository.
    """

    def __init__(self, git: Git) -> None:
        self.folder = git.git_dir / "flotilla"

    @property
    def move(self) -> Move | None:
        """The change of the working tree that was begun and not finished."""
        data = self._read("move.json")
        return None if data is None else Move(**data)

    @move.setter
    def move(self, move: Move | None) -> None:
        self._write("move.json", move)

    @property
    def last_sync(self) -> LastSync | None:
        """The result of the last sync."""
        data = self._read("last-sync.json")
        return None if data is None else LastSync(**data)

    @last_sync.setter
    def last_sync(self, last_sync: LastSync) -> None:
        self._write("last-sync.json", last_sync)

    def _read(self, name: str) -> dict[str, str] | None:
        try:
            data = json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return None
        return dict(data)

    def _write(self, name: str, record: Move | LastSync | None) -> None:
        path = self.folder / name
        if record is None:
            path.unlink(missing_ok=True)
        else:
            _replace(path, json.dumps(asdict(record), indent=2))
        _flush_folder(self.folder)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
