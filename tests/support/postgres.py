"""The PostgreSQL cluster of the tests, without durability for speed. Used by the fixture `postgres_url`."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from demo.processes import MissingRequirement, free_port, running

# PostgreSQL does not run as root. Debian's package creates this account.
ACCOUNT = "postgres"

# The cluster is in memory if there is enough, which makes the tests several times as fast.
MEMORY = Path("/dev/shm")  # noqa: S108 - used through `mkdtemp` only
MIN_FREE_BYTES = 1 << 30


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a cluster for the duration of a `with` block and yield the URL of its database `postgres`.

    Raises:
        MissingRequirement: PostgreSQL is not installed or does not start.
    """
    programs = _find_programs()
    user = ACCOUNT if os.geteuid() == 0 else None
    # The account of PostgreSQL cannot access pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="flotilla-postgres-", dir=_find_memory_folder()))
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        data = folder / "data"
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--lc-ctype=C.UTF-8",  # case conversion beyond ASCII, as on usual servers
                "--no-sync",
            ],
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with running(
            command,
            log=folder / "postgres.log",
            ready=lambda: _is_answering(url),
            user=user,
            stop_signal=signal.SIGINT,  # closes connections instead of waiting for them
        ):
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_memory_folder() -> Path | None:
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MIN_FREE_BYTES else None


def _find_programs() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not folders:
        raise MissingRequirement("PostgreSQL is not installed: apt-get install postgresql (or make system)")
    return folders[-1]


def _is_answering(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
