"""Redis, scheduler, workers and engines that only pretend, and the resources they have used. Used by `simulation`."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import sqlalchemy as sa

from demo.bench.rollout.process_cpu import find_parent, read_cpu_seconds
from demo.processes import free_port, running
from portal.database import Database

_WORKER_PROCESSES = 16


@dataclass(frozen=True)
class Usage:
    """What the processes have used since their start.

    Attributes:
        cpu_seconds: processor time by process.
        statements: number of SQL statements by process.
        engine_calls: number of calls of engines, by call.
        database_bytes: size of the database.
    """

    cpu_seconds: Counter[str]
    statements: Counter[str]
    engine_calls: Counter[str]
    database_bytes: int

    def since(self, earlier: Usage) -> Usage:
        """Return the difference to an earlier moment."""
        return Usage(
            self.cpu_seconds - earlier.cpu_seconds,
            self.statements - earlier.statements,
            self.engine_calls - earlier.engine_calls,
            self.database_bytes - earlier.database_bytes,
        )


class FakePlatform:
    """The running processes.

    Attributes:
        bots_port: the port at which all bots answer health checks.
        folder: of the engines' sockets.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        """Prepare the processes of an installation with this database."""
        self.folder = folder
        self.bots_port = free_port()
        self._database = database
        self._processes: dict[str, Popen[bytes]] = {}

    def node_url(self, number: int) -> str:
        """Return the address of the engine of a node."""
        return f"unix://{self.folder}/node-{number}.sock"

    @contextmanager
    def running_engines(self, nodes: int, bots: int, silent: int = 0) -> Iterator[None]:
        """Run the engines for the duration of a `with` block.

        Args:
            nodes: number of engines.
            bots: number of bots on all engines.
            silent: number of bots that never answer a health check.
        """
        arguments = (nodes, bots, self.bots_port, silent)
        command = [sys.executable, "-m", "demo.bench.rollout.fake_engine", str(self.folder), *map(str, arguments)]
        with running(command, log=self.folder / "engines.log", ready=self._engines_answer):
            yield

    @contextmanager
    def running_processes(self) -> Iterator[None]:
        """Run Redis, a worker and a scheduler for the duration of a `with` block."""
        with ExitStack() as stack:
            for name in ("redis", "worker", "scheduler"):
                command = [sys.executable, "-m", "demo.bench.rollout.counted_process", name, str(self._counter(name))]
                is_ready = self._redis_answers if name == "redis" else lambda: True
                server = running(
                    command, log=self.folder / f"{name}.log", ready=is_ready, environment=self._environment()
                )
                self._processes[name] = stack.enter_context(server)
            yield

    def read_usage(self) -> Usage:
        """Return what the processes have used so far."""
        cpu_seconds = {name: read_cpu_seconds(process.pid) for name, process in self._processes.items()}
        if (server := self._find_database_server()) is not None:
            cpu_seconds["database"] = read_cpu_seconds(server)
        counters = {name: self._counter(name) for name in self._processes}
        statements = {name: file.stat().st_size if file.exists() else 0 for name, file in counters.items()}
        return Usage(
            Counter(cpu_seconds),
            Counter(statements),
            Counter(json.loads(_get(self.folder / "calls.sock"))),
            self._measure_database(),
        )

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATA_DIR": str(self.folder / "data"),
            "DATABASE_URL": self._database.engine.url.render_as_string(hide_password=False),
            "REDIS_URL": "",
            "FLEET_IMAGE_ALLOWLIST": "registry.example",
            "REGISTRY_CONFIG": str(self.folder / "none.json"),
            "WORKER_PROCESSES": str(_WORKER_PROCESSES),
        }

    def _counter(self, process: str) -> Path:
        return self.folder / f"{process}.statements"

    def _engines_answer(self) -> bool:
        try:
            _get(self.folder / "calls.sock")
        except OSError:
            return False
        return True

    def _redis_answers(self) -> bool:
        return (self.folder / "data" / "redis.sock").exists()

    def _find_database_server(self) -> int | None:
        """Return the process id of a PostgreSQL server, whose backends are its children; None for SQLite."""
        if self._database.engine.dialect.name == "sqlite":
            return None
        with self._database.reading() as session:
            return find_parent(session.scalars(sa.select(sa.func.pg_backend_pid())).one())

    def _measure_database(self) -> int:
        with self._database.reading() as session:
            if self._database.engine.dialect.name == "sqlite":
                pages = session.scalars(
                    sa.text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
                )
                return int(pages.one())
            return int(session.scalars(sa.select(sa.func.pg_database_size(sa.func.current_database()))).one())


def _get(path: Path) -> bytes:
    """Return the answer of a server on a socket."""
    connection = http.client.HTTPConnection("engines")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(path))
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()
