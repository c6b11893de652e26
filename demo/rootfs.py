"""File systems for images, put together from programs of the machine we run on, so that no registry is needed."""

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
# Parts of Python's library that a server does not need; the extension modules among them drag in large libraries.
UNNEEDED_FOLDERS = re.compile(
    r"test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|distutils|pydoc_data|venv|unittest"
    r"|site-packages|dist-packages|config-.*"
)
UNNEEDED_FILES = re.compile(
    r"(_test|_ctypes_test|_xxtest|_xxsub|xx|_tkinter|_curses|readline|_codecs_|nis|ossaudiodev).*"
    r"|.*\.opt-[12]\.pyc"
    r"|.*\.a"
)
HELPER_PACKAGES = ("coreutils", "findutils", "tar")


class RootFileSystem:
    """A tar archive that grows into the file system of an image."""

    def __init__(self, archive: IO[bytes]) -> None:
        """Write to `archive`; `close` completes it."""
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
        """Add a file of the machine, at its own place or at `path`; what a link points at comes instead of it."""
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
        """Add programs to `folder`, and the shared libraries they are linked with."""
        found = list(programs)
        for program in found:
            self.copy(program, f"{folder}/{program.name}")
        for library in shared_libraries(found):
            self.copy(library)

    def close(self) -> None:
        """Complete the archive."""
        self._tar.close()


def shared_libraries(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries, the loader among them, that these programs and extension modules need.

    Raises:
        MachineError: a library is missing.
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

    Everything keeps its place, because the interpreter finds its library from where it is itself; the link
    `/usr/local/bin/python` gives it a name that is the same everywhere.
    """
    root = RootFileSystem(archive)
    executable = Path(os.path.realpath(sys.executable))
    libraries = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    modules = [path for library in libraries for path in _needed_files(library)]
    extensions = [path for path in modules if path.suffix == ".so"]
    for path in modules:
        root.copy(path)
    root.copy(executable, str(executable))
    for path in shared_libraries([executable, *extensions]):
        root.copy(path)
    root.copy_programs([Path(require_program("sh", "dash"))])
    if executable != Path("/usr/local/bin/python"):
        root.link("usr/local/bin/python", executable)
    root.close()


def _needed_files(library: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if not UNNEEDED_FOLDERS.fullmatch(name)]
        yield from (Path(folder, name) for name in files if not UNNEEDED_FILES.fullmatch(name))


def write_helper(archive: IO[bytes]) -> None:
    """Write what takes and restores snapshots: a shell, GNU tar, findutils and coreutils with their libraries."""
    root = RootFileSystem(archive)
    root.copy_programs([Path(require_program("sh", "dash")), *_programs_of(HELPER_PACKAGES)])
    root.close()


def _programs_of(packages: Iterable[str]) -> list[Path]:
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        raise MissingRequirement("the snapshot helper image is made of Debian packages, and this machine has no dpkg")
    listing = subprocess.run([dpkg, "-L", *packages], capture_output=True, text=True, check=True).stdout
    files = (Path(line) for line in listing.splitlines() if "/bin/" in line)
    return [path for path in files if path.is_file()]
