"""File systems of the reference images, copied from programs of this machine. Used by `demo.images`.

Copying installed programs makes a public registry unnecessary.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from demo.processes import MissingRequirement, require_program

ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
# Parts of the standard library that a server does not need; some of them depend on large shared libraries.
UNNEEDED_FOLDERS = re.compile(
    r"test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|distutils|pydoc_data|venv|unittest"
    r"|site-packages|dist-packages|config-.*"
)
UNNEEDED_FILES = re.compile(
    r"(_test|_ctypes_test|_xxtest|_xxsub|xx|_tkinter|_curses|readline|_codecs_|nis|ossaudiodev).*"
    r"|.*\.opt-[12]\.pyc"
    r"|.*\.a"
)
HELPER_PACKAGES = ("coreutils", "e2fsprogs", "findutils", "tar")


class RootFileSystem:
    """A tar archive with the file system of an image."""

    def __init__(self, archive: IO[bytes]) -> None:
        """Begin the archive with the accounts and folders every image needs; `close` completes it."""
        self._tar = tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see close
        self._present: set[str] = set()
        for path, content in ACCOUNTS.items():
            self.write(path, content)
        for path, mode in (("tmp", 0o1777), ("root", 0o755)):
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            self._tar.addfile(folder)

    def write(self, path: str, content: bytes) -> None:
        """Add a file with this content."""
        member = tarfile.TarInfo(path)
        member.size, member.mode = len(content), 0o644
        self._tar.addfile(member, io.BytesIO(content))

    def link(self, path: str, target: Path) -> None:
        """Add a symbolic link."""
        member = tarfile.TarInfo(path)
        member.type, member.linkname = tarfile.SYMTYPE, str(target)
        self._tar.addfile(member)

    def copy(self, source: Path, path: str | None = None) -> None:
        """Add a file of this machine under its own path or under `path`; the target replaces a symbolic link."""
        name = (path or str(source)).lstrip("/")
        if name in self._present:
            return
        self._present.add(name)
        with source.open("rb") as content:
            member = self._tar.gettarinfo(arcname=name, fileobj=content)
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mode |= 0o444
            # A second hard link to a file would be stored as a reference to the first.
            member.type, member.size = tarfile.REGTYPE, os.fstat(content.fileno()).st_size
            self._tar.addfile(member, content)

    def copy_programs(self, programs: Iterable[Path], folder: str = "bin") -> None:
        """Add programs to `folder`, and the shared libraries that they need."""
        paths = list(programs)
        for program in paths:
            self.copy(program, f"{folder}/{program.name}")
        for library in find_shared_libraries(paths):
            self.copy(library)

    def close(self) -> None:
        """Complete the archive."""
        self._tar.close()


def find_shared_libraries(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries, including the loader, that these programs and extension modules need.

    Raises:
        MissingRequirement: a library is missing.
    """
    result = subprocess.run(
        [require_program("ldd", "libc-bin"), *(str(path) for path in binaries)],
        capture_output=True,
        text=True,
        check=False,
    )
    if missing := re.findall(r"^\s*(\S+) => not found", result.stdout, re.MULTILINE):
        raise MissingRequirement(f"shared libraries are missing on this machine: {', '.join(sorted(set(missing)))}")
    # Lines read "libc.so.6 => /lib/…/libc.so.6 (0x…)", and for the loader "/lib64/ld-linux-x86-64.so.2 (0x…)".
    return {Path(path) for path in re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", result.stdout, re.MULTILINE)}


def write_python(archive: IO[bytes]) -> None:
    """Write the running Python with its standard library, and a shell.

    All files keep their paths, because the interpreter finds its library by its own path. The link
    `/usr/local/bin/python` gives the interpreter the same name on every machine.
    """
    root = RootFileSystem(archive)
    executable = Path(os.path.realpath(sys.executable))
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    modules = [path for library in libraries for path in _list_needed_files(library)]
    extensions = [path for path in modules if path.suffix == ".so"]
    for path in modules:
        root.copy(path)
    root.copy(executable, str(executable))
    for path in find_shared_libraries([executable, *extensions]):
        root.copy(path)
    root.copy_programs([Path(require_program("sh", "dash"))])
    if executable != Path("/usr/local/bin/python"):
        root.link("usr/local/bin/python", executable)
    root.close()


def _list_needed_files(library: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if not UNNEEDED_FOLDERS.fullmatch(name)]
        yield from (Path(folder, name) for name in files if not UNNEEDED_FILES.fullmatch(name))


def write_helper(archive: IO[bytes]) -> None:
    """Write the programs that take and restore snapshots.

    These are a shell, GNU tar, findutils, coreutils and lsattr, and the optional programs flock and ionice.
    """
    root = RootFileSystem(archive)
    programs = (("sh", "dash"), ("flock", "util-linux"), ("ionice", "util-linux"))
    root.copy_programs([*(Path(require_program(*one)) for one in programs), *_list_programs(HELPER_PACKAGES)])
    root.close()


def _list_programs(packages: Iterable[str]) -> list[Path]:
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        raise MissingRequirement("the snapshot helper image is built from Debian packages, but dpkg is not installed")
    listing = subprocess.run([dpkg, "-L", *packages], capture_output=True, text=True, check=True).stdout
    files = (Path(line) for line in listing.splitlines() if "/bin/" in line)
    return [path for path in files if path.is_file()]
