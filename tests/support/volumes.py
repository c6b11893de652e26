"""Volumes with every kind of file system entry, read and written from the host without the code under test."""

import fcntl
import hashlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

_UNDEFINED = 0xFFFFFFFF
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
_LONG_AGO = 1_600_000_000_123_456_789


@dataclass(frozen=True)
class Entry:
    """Everything that a restore must bring back of one entry; `links` lists all names of the same file."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    device: int
    target: str | None
    content: str | None
    links: frozenset[str]
    attributes: dict[str, bytes]


def root_of(engine: docker.APIClient, volume: str) -> Path:
    """Return the folder of a volume on the host."""
    return Path(engine.inspect_volume(volume)["Mountpoint"])


def walk(root: Path) -> dict[str, Entry]:
    """Return all entries of a folder by name, including the folder itself as `.`, without sockets."""
    paths = [path for path in _paths(root) if not path.is_socket()]
    names: dict[int, set[str]] = {}
    for path in paths:
        names.setdefault(path.lstat().st_ino, set()).add(str(path.relative_to(root)))
    return {str(path.relative_to(root)): _entry(path, names) for path in paths}


def fill_with_every_kind_of_entry(root: Path) -> None:
    """Create one entry of every kind that incomplete archiving loses."""
    _fill_with_names(root)
    _fill_with_owners_and_modes(root)
    _fill_with_attributes(root)
    _fill_with_special_files(root)
    os.chown(root, 1000, 1000)
    root.chmod(0o2750)
    os.setxattr(root, "user.root", b"1")
    _set_distinct_times(root)


def damage(root: Path) -> None:
    """Change, remove and add entries as a bad release might, including the root folder."""
    _write(root, ".dot", b"overwritten")
    _write(root, "large", b"")
    (root / "link").unlink()
    (root / "empty").rmdir()
    os.removexattr(root / "attribute", "user.a")
    (root / "..new" / "deep").mkdir(parents=True)
    _write(root, "..new/deep/.hidden")
    os.setxattr(root, "user.root", b"changed")
    os.setxattr(root, "system.posix_acl_default", _acl(owner=7, user=(4321, 7)))
    os.chown(root, 7, 7)
    root.chmod(0o3777)


@contextmanager
def protected(path: Path, flag: int = IMMUTABLE) -> Iterator[None]:
    """Make an entry immutable or append-only for the duration of a `with` block."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
        try:
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags | flag))
        except OSError:
            pytest.skip("this file system has no such entries, or this user may not make them")
        try:
            yield
        finally:
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags))
    finally:
        os.close(descriptor)


def _fill_with_names(root: Path) -> None:
    for name in (".dot", "-dash", "new\nline", "ünï", os.fsdecode(b"not UTF-8\xff"), "back\\slash", "tab\t", " "):
        _write(root, name)
    (root / "empty").mkdir()
    (root / "dangling").symlink_to("nowhere")
    (root / "link").symlink_to(".dot")
    (root / "hard").hardlink_to(root / ".dot")
    _write(root, "large", os.urandom(3 << 20))


def _fill_with_owners_and_modes(root: Path) -> None:
    for name, uid, mode in (("big owner", 3_000_000_000, 0o600), ("setid", 5, 0o6755), ("secret", 77, 0)):
        _write(root, name)
        os.chown(root / name, uid, uid - 1)
        (root / name).chmod(mode)
    for name, mode in (("sticky", 0o1777), ("setgid", 0o2775)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    _write(root, "setgid/inside")
    os.lchown(root / "dangling", 1234, 1234)


def _fill_with_attributes(root: Path) -> None:
    for name in ("attribute", "capability", "acl"):
        _write(root, name)
    os.setxattr(root / "attribute", "user.a", b"zero\0inside\n")
    bind_to_low_ports = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(root / "capability", "security.capability", bind_to_low_ports)
    os.setxattr(root / "acl", "system.posix_acl_access", _acl(owner=6, user=(1234, 4)))
    (root / "default acl").mkdir()
    os.setxattr(root / "default acl", "system.posix_acl_default", _acl(owner=7, user=(4321, 5)))
    _write(root, "default acl/inherits")


def _fill_with_special_files(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(50 << 20)
        file.write(b"middle")
        file.truncate(60 << 20)
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    folder = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:  # a short path, because that of a socket is limited to 107 bytes
        listener.bind(f"/proc/self/fd/{folder}/socket")
    os.close(folder)


def _set_distinct_times(root: Path) -> None:
    for number, path in enumerate(_paths(root)):
        moment = _LONG_AGO + number * 1_000_000_007
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def _acl(owner: int, user: tuple[int, int]) -> bytes:
    entries = [(1, owner, _UNDEFINED), (2, user[1], user[0]), (4, 5, _UNDEFINED)]
    entries += [(16, 5, _UNDEFINED), (32, 0, _UNDEFINED)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _write(root: Path, name: str, content: bytes = b"x") -> None:
    (root / name).write_bytes(content)


def _paths(root: Path) -> Iterator[Path]:
    for name in sorted(root.iterdir()):
        if name.is_dir() and not name.is_symlink():
            yield from _paths(name)
        else:
            yield name
    yield root


def _entry(path: Path, names: dict[int, set[str]]) -> Entry:
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    attributes = os.listxattr(path, follow_symlinks=False)
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        device=status.st_rdev,
        target=str(path.readlink()) if kind == stat.S_IFLNK else None,
        content=hashlib.sha256(path.read_bytes()).hexdigest() if kind == stat.S_IFREG else None,
        links=frozenset(names[status.st_ino]),
        attributes={name: os.getxattr(path, name, follow_symlinks=False) for name in attributes},
    )
