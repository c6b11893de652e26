"""Random changes of a folder, like those of bots and their releases. Used by tests of snapshots.

Some changes are made to deceive a snapshot that trusts times and names: same size and time of modification, writes
through memory, folders that are swapped and swapped back.
"""

from __future__ import annotations

import mmap
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

_LONG_AGO = 1_500_000_000_000_000_000


class History:
    """Random changes of one folder.

    Args:
        root: the folder.
        seed: determines the changes, as far as no other process changes the folder.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._made = 0
        self._mapped: list[tuple[Path, mmap.mmap]] = []

    def begin(self) -> None:
        """Fill the empty folder with folders and files, some of them linked."""
        for folder in ("a", "b", "a/deep", "b/deep"):
            (self._root / folder).mkdir()
        for folder in (".", "a", "b", "a/deep", "b/deep"):
            for number in range(4):
                self._write(self._root / folder / f"file{number}")
        (self._root / "a/link").hardlink_to(self._root / "b/file1")
        (self._root / "symlink").symlink_to("a/file1")
        for path in self._files()[:2]:
            self._map(path)

    def change(self, times: int) -> None:
        """Make this many random changes."""
        for _ in range(times):
            self._random.choice(self._changes())()

    def remove_everything(self) -> None:
        """Remove all entries."""
        self._empty(self._root)

    def end(self) -> None:
        """Close the files that are mapped into memory, as the end of a process does."""
        for _path, mapped in self._mapped:
            mapped.close()
        self._mapped.clear()

    def _changes(self) -> list[Callable[[], object]]:
        return [
            self._overwrite,
            self._replace_unnoticeably,
            self._write_through_memory,
            self._write_through_memory,
            self._truncate,
            self._write_sparsely,
            self._add_file,
            self._remove_file,
            self._rename_file,
            self._swap_files_and_back,
            self._swap_folders_and_back,
            self._rename_folder,
            self._add_hard_link,
            self._change_attributes,
            self._change_folder,
            self._replace_by_folder,
            self._remove_folder,
            self._add_symlink,
        ]

    def _overwrite(self) -> None:
        if path := self._any_file():
            with path.open("r+b") as file:
                file.seek(self._random.randrange(path.stat().st_size + 1))
                file.write(self._bytes())

    def _replace_unnoticeably(self) -> None:
        """Replace a file by another one of the same name, size, mode and time of modification."""
        if path := self._any_file():
            before = path.stat()
            new = path.with_name(self._new_name())
            new.write_bytes(self._random.randbytes(before.st_size))
            new.chmod(stat.S_IMODE(before.st_mode))
            os.chown(new, before.st_uid, before.st_gid)
            os.utime(new, ns=(before.st_mtime_ns, before.st_mtime_ns))
            new.replace(path)

    def _write_through_memory(self) -> None:
        for path, mapped in self._mapped:
            if path.exists() and path.stat().st_size >= len(mapped):  # a shorter file would end the process
                position = self._random.randrange(len(mapped))
                mapped[position] = self._random.randrange(256)
        file = self._any_file()
        if file and self._random.random() < 0.3:
            self._map(file)

    def _truncate(self) -> None:
        if (path := self._any_file()) and not self._is_mapped(path):
            os.truncate(path, self._random.randrange(10_000))

    def _write_sparsely(self) -> None:
        path = self._any_folder() / self._new_name()
        with path.open("wb") as file:
            file.seek(self._random.randrange(3_000_000))
            file.write(self._bytes())
            file.truncate(3_500_000)

    def _add_file(self) -> None:
        self._write(self._any_folder() / self._new_name())

    def _remove_file(self) -> None:
        if path := self._any_file():
            path.unlink()

    def _rename_file(self) -> None:
        if path := self._any_file():
            path.rename(self._any_folder() / self._new_name())

    def _swap_files_and_back(self) -> None:
        one, other = self._any_file(), self._any_file()
        if one and other and one != other:
            self._swap(one, other)
            self._swap(one, other)

    def _swap_folders_and_back(self) -> None:
        if all((self._root / name).is_dir() for name in ("a", "b")):
            for _ in range(self._random.choice([2, 2, 2, 1])):
                self._swap(self._root / "a", self._root / "b")

    def _rename_folder(self) -> None:
        if folders := self._folders():
            self._random.choice(folders).rename(self._root / self._new_name())

    def _add_hard_link(self) -> None:
        if path := self._any_file():
            (self._any_folder() / self._new_name()).hardlink_to(path)

    def _change_attributes(self) -> None:
        if path := self._any_file():
            path.chmod(self._random.choice([0o600, 0o644, 0o4755, 0]))
            os.chown(path, self._random.randrange(3000), self._random.randrange(3000))
            os.setxattr(path, "user.note", self._bytes()[:50])
            os.utime(path, ns=(_LONG_AGO, _LONG_AGO + self._random.randrange(10**9)))

    def _change_folder(self) -> None:
        if folders := self._folders():
            folder = self._random.choice(folders)
            folder.chmod(self._random.choice([0o700, 0o2775, 0o1777]))
            os.setxattr(folder, self._random.choice(["user.a", "user.b"]), self._bytes()[:20])
            os.utime(folder, ns=(_LONG_AGO, _LONG_AGO))

    def _replace_by_folder(self) -> None:
        if path := self._any_file():
            path.unlink()
            path.mkdir()
            self._write(path / "inside")

    def _remove_folder(self) -> None:
        if folders := self._folders():
            folder = self._random.choice(folders)
            self._empty(folder)
            folder.rmdir()

    @staticmethod
    def _empty(folder: Path) -> None:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()

    def _add_symlink(self) -> None:
        (self._any_folder() / self._new_name()).symlink_to(self._new_name())

    def _swap(self, one: Path, other: Path) -> None:
        aside = self._root / "aside"
        one.rename(aside)
        other.rename(one)
        aside.rename(other)

    def _map(self, path: Path) -> None:
        if path.stat().st_size > 0:
            with path.open("r+b") as file:
                self._mapped.append((path, mmap.mmap(file.fileno(), path.stat().st_size)))

    def _is_mapped(self, path: Path) -> bool:
        inode = path.stat().st_ino
        return any(mapped.exists() and mapped.stat().st_ino == inode for mapped, _ in self._mapped)

    def _write(self, path: Path) -> None:
        path.write_bytes(self._bytes())

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.choice([1, 100, 5000, 20_000]))

    def _new_name(self) -> str:
        self._made += 1
        return self._random.choice(["new", "with space ", "line\nend", "-dash", "back\\slash"]) + str(self._made)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._root.rglob("*") if path.is_file() and not path.is_symlink())

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._root.rglob("*") if path.is_dir() and not path.is_symlink())

    def _any_file(self) -> Path | None:
        files = self._files()
        return self._random.choice(files) if files else None

    def _any_folder(self) -> Path:
        return self._random.choice([self._root, *self._folders()])
