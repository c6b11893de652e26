"""The measured programs: a bot, nginx with `auth_request` in front of it, and the gateway in front of it."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from demo.bench.environment import BenchEnvironment
from demo.bench.gateway.nginx import running_nginx
from demo.bench.gateway.visitors import Visitor, create_bot, sign_in
from demo.processes import free_port, running
from portal.database import Database
from portal.settings import Settings

PROCESSES = len(os.sched_getaffinity(0))
"""Number of processes of each program: one per processor, as nginx has by default."""
VISITORS = 20


@dataclass(frozen=True)
class Front:
    """Something that answers requests: the bot itself, or a proxy.

    Attributes:
        name: for the table.
        port: where it listens.
        pids: its processes, without their children.
    """

    name: str
    port: int
    pids: Sequence[int]

    def list_processes(self) -> list[int]:
        """Return its processes and their children."""
        children = [Path(f"/proc/{pid}/task/{pid}/children").read_text().split() for pid in self.pids]
        return [*self.pids, *(int(child) for family in children for child in family)]

    def read_processor_seconds(self) -> float:
        """Return how much processor time its processes have used."""
        ticks = 0
        for pid in self.list_processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def read_memory(self) -> int:
        """Return the memory of its processes in bytes, shared pages divided by the number of their users."""
        lines = [
            line
            for pid in self.list_processes()
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        ]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@dataclass(frozen=True)
class Fronts:
    """All measured programs, with people who are signed in."""

    direct: Front
    nginx: Front
    gateway: Front
    visitors: Sequence[Visitor]

    def __iter__(self) -> Iterator[Front]:
        return iter((self.direct, self.nginx, self.gateway))


@contextmanager
def running_fronts(environment: BenchEnvironment, database: Database) -> Iterator[Fronts]:
    """Run all measured programs for the duration of a `with` block.

    Raises:
        MissingRequirement: a program is not installed or does not start.
    """
    folder = environment.folder / "gateway"
    folder.mkdir()
    settings = _choose_ports(environment.settings_for(database))
    bot_port, check_port, nginx_port = free_port(), free_port(), free_port()
    visitors = _create_visitors(database, settings, f"127.0.0.1:{bot_port}")
    variables = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "BOTS_DOMAIN": settings.gateway.bots_domain or "",
        "GATEWAY_PORT": str(settings.gateway.port),
    }
    with ExitStack() as stack:
        programs = _Programs(stack, folder, variables, visitors[0])
        bot = programs.run("bot", bot_port, "demo.bench.gateway.bot", str(bot_port))
        checks = [
            programs.run(f"check-{number}", check_port, "demo.bench.gateway.check_endpoint", str(check_port))
            for number in range(PROCESSES)
        ]
        nginx = stack.enter_context(
            running_nginx(
                folder / "nginx",
                port=nginx_port,
                bot=f"127.0.0.1:{bot_port}",
                check_port=check_port,
                workers=PROCESSES,
                ready=lambda: is_answering(nginx_port, visitors[0]),
            )
        )
        port = settings.gateway.port
        gateways = [programs.run(f"gateway-{number}", port, "daemon.cli", "gateway") for number in range(PROCESSES)]
        yield Fronts(
            Front("bot directly", bot_port, [bot]),
            Front("nginx + auth_request", nginx_port, [nginx.pid, *checks]),
            Front("gateway", port, gateways),
            visitors,
        )


@dataclass(frozen=True)
class _Programs:
    """Runs Python programs until the stack is closed, and returns their process ids when they answer a visitor."""

    stack: ExitStack
    folder: Path
    variables: Mapping[str, str]
    visitor: Visitor

    def run(self, name: str, port: int, *arguments: str) -> int:
        server = running(
            [sys.executable, "-m", *arguments],
            log=self.folder / f"{name}.log",
            ready=lambda: is_answering(port, self.visitor),
            environment=self.variables,
        )
        return self.stack.enter_context(server).pid


def _choose_ports(settings: Settings) -> Settings:
    port = free_port()
    return replace(settings, gateway=replace(settings.gateway, port=port, bots_domain=f"localhost:{port}"))


def _create_visitors(database: Database, settings: Settings, address: str) -> list[Visitor]:
    with database.transaction() as session:
        bot = create_bot(session, address)
        domain = settings.gateway.bots_domain or ""
        return [sign_in(session, bot, domain, number) for number in range(VISITORS)]


def is_answering(port: int, visitor: Visitor) -> bool:
    """Return whether a request is answered with success."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=visitor.headers)
    try:
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - loopback
            return True
    except (urllib.error.URLError, OSError):
        return False
