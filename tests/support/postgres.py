"""A PostgreSQL cluster of our own, fast because it may forget everything when the machine crashes."""

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

# PostgreSQL refuses to run as root; Debian's package makes this account.
ACCOUNT = "postgres"

# Copying a database for each test is five times as fast in memory, where there is enough of it.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder with a name of its own is made in it
ENOUGH_BYTES = 1 << 30


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a cluster for the time of a `with` block and give the URL of its database `postgres`.

    Raises:
        MachineError: PostgreSQL is not installed or does not start.
    """
    programs = _programs()
    user = ACCOUNT if os.geteuid() == 0 else None
    # Not in pytest's folders: the account must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="flotilla-postgres-", dir=_memory()))
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
                "--lc-ctype=C.UTF-8",  # letters beyond A to Z, as on any server set up for people
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
            ready=lambda: _answers(url),
            user=user,
            stop_signal=signal.SIGINT,  # ends connections instead of waiting for them
        ):
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> Path | None:
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES else None


def _programs() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not folders:
        raise MissingRequirement("PostgreSQL is not installed: apt-get install postgresql (or make system)")
    return folders[-1]


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
