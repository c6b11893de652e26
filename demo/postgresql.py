"""A private PostgreSQL cluster, without durability for speed. Used by tests and benchmarks."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    with new_cluster() as cluster, cluster.running():
        yield cluster.url


@contextmanager
def new_cluster() -> Iterator["PostgresCluster"]:
    """Create a cluster that does not run yet, and remove it after the `with` block.

    Raises:
        MissingRequirement: PostgreSQL is not installed.
    """
    programs = _find_programs()
    user = ACCOUNT if os.geteuid() == 0 else None
    # The account of PostgreSQL cannot access pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="flotilla-postgres-", dir=_find_memory_folder()))
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                folder / "data",
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
        yield PostgresCluster(folder, programs, user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PostgresCluster:
    """A cluster that a test can start, freeze and stop.

    Attributes:
        url: of its database `postgres`.
    """

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        """Choose a port for the cluster in `folder`, which runs as `user`."""
        self._folder, self._programs, self._user = folder, programs, user
        self._port = free_port()
        self._server = ExitStack()
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server for the duration of a `with` block.

        Raises:
            MissingRequirement: the server does not start.
        """
        with self._server:
            self._start()
            yield

    @contextmanager
    def shut_down(self) -> Iterator[None]:
        """Shut the running server down for the duration of a `with` block. It returns at the same address."""
        self._server.close()
        yield
        self._start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let all processes of the server stand still for the duration of a `with` block."""
        main = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(main, signal.SIGSTOP)  # first, so that it starts no other process
        processes = [*map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split()), main]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        server = running(
            command,
            log=self._folder / "postgres.log",
            ready=lambda: _is_answering(self.url),
            user=self._user,
            stop_signal=signal.SIGINT,  # closes connections instead of waiting for them
        )
        self._server.enter_context(server)


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
