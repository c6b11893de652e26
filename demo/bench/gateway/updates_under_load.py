"""Benchmark of updates while people use the bot through two gateways. Used by `demo.bench.__main__`.

All processes are real: Docker engine, worker, scheduler, gateways. In two of the scenarios, one of them is killed in
the middle of an update and started again a second later, as by a process manager.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from daemon.bots.adopt import adopt
from demo.bench import updates
from demo.bench.environment import BenchEnvironment
from demo.bench.gateway.fronts import is_answering
from demo.bench.gateway.load import constant_load
from demo.bench.gateway.visitors import Visitor, sign_in
from demo.bench.tables import Table
from demo.images import BOT_REPOSITORY, build_reference_bot
from demo.processes import free_port, running
from demo.seed import read_notes, start_container, wait_until_healthy
from demo.versions import FIRST
from portal.database import Database
from portal.models import Bot, BotUpdate, Step, UpdateState
from portal.services.releases import releases

UPDATES = 20
RATE = 200
SOCKETS = 50
_VISITORS = 20
_NAME = "under-load"
_SECONDS_TO_UPDATE = 300
_SECONDS_BETWEEN = 2
_RESTART_SECONDS = 1
_WORKER, _SCHEDULER, _GATEWAYS = "worker", "scheduler", ("gateway-1", "gateway-2")
_PROCESSES = (_SCHEDULER, _WORKER, *_GATEWAYS)
_DOWNTIME = frozenset({Step.SNAPSHOT, Step.SWAP, Step.START, Step.HEALTH})


def measure(environment: BenchEnvironment) -> Table:
    """Measure good updates, and updates in which a worker or a gateway is killed."""
    table = Table(
        f"Updates under load: {RATE} requests/s and {SOCKETS} WebSockets through {len(_GATEWAYS)} gateways",
        ("", "updates", "requests", "failed", "p50", "longest wait", "sockets opened", "longest reconnect", "notes"),
        note="Notes: confirmed to people / stored in the bot. A killed process starts again after a second.",
    )
    with environment.new_database() as database, _running_platform(environment, database) as platform:
        table.rows.append(_measure(platform, f"{UPDATES} good updates", lambda: _update_repeatedly(platform)))
        for name, process in (("worker killed", _WORKER), ("one gateway killed", _GATEWAYS[0])):
            row = _measure(platform, name, lambda process=process: [platform.update(process)])  # type: ignore[misc]
            table.rows.append(row)
    return table


@dataclass
class _Platform:
    """A bot, and the processes that update it and lead people to it."""

    environment: BenchEnvironment
    database: Database
    variables: dict[str, str]
    port: int
    stack: ExitStack
    bot_id: str
    visitors: list[Visitor]
    processes: dict[str, subprocess.Popen[bytes]]
    published: int = 0

    def start(self, name: str) -> None:
        """Start a process."""
        command = [sys.executable, "-m", "daemon.cli", name.partition("-")[0]]
        log = self.environment.folder / f"{name}.log"
        is_ready = (lambda: is_answering(self.port, self.visitors[0])) if name in _GATEWAYS else (lambda: True)
        self.processes[name] = self.stack.enter_context(
            running(command, log=log, ready=is_ready, environment=self.variables)
        )

    def update(self, killed: str | None = None) -> UpdateState:
        """Update the bot to a new release, and return how the update ended.

        Args:
            killed: the process that is killed during the downtime.

        Raises:
            RuntimeError: the update did not end in time.
        """
        update_id = self._request_update()
        deadline = time.monotonic() + _SECONDS_TO_UPDATE
        while (update := self._read(update_id)).ended_at is None:
            if killed is not None and update.step in _DOWNTIME:
                self.processes[killed].kill()
                time.sleep(_RESTART_SECONDS)
                self.start(killed)
                killed = None
            if time.monotonic() > deadline:
                raise RuntimeError(f"the update is still in step {update.step}")
            time.sleep(0.1)
        if killed is not None:
            raise RuntimeError(f"the update ended before the {killed} was killed")
        return update.state

    def count_notes(self) -> int:
        """Return how many notes are in the bot."""
        with self.database.reading() as session:
            address = session.get_one(Bot, self.bot_id).address or ""
        return len(read_notes(address))

    def _request_update(self) -> str:
        """Publish a release and start its rollout; return the id of the update."""
        environment, self.published = self.environment, self.published + 1
        version = replace(FIRST, version=f"1.{self.published}.0")
        digest = build_reference_bot(environment.engine, environment.registry, version, _NAME, {})
        while not self._is_detected(digest):  # the worker may be polling this registry at the same moment
            updates.poll(self.database, environment.settings, _image(environment))
        with self.database.transaction() as session:
            updates.start_rollout(session, environment.settings, session.get_one(Bot, self.bot_id))
        newest = sa.select(BotUpdate.id).where(BotUpdate.ended_at.is_(None))
        with self.database.reading() as session:
            return session.scalars(newest).one()

    def _is_detected(self, digest: str) -> bool:
        with self.database.reading() as session:
            target = releases.map_targets(session).get(_image(self.environment))
            return target is not None and target.digest == digest

    def _read(self, update_id: str) -> BotUpdate:
        with self.database.reading() as session:
            return session.get_one(BotUpdate, update_id)


def _image(environment: BenchEnvironment) -> str:
    return f"{environment.registry}/{BOT_REPOSITORY}:{_NAME}"


@contextmanager
def _running_platform(environment: BenchEnvironment, database: Database) -> Iterator[_Platform]:
    port = free_port()
    updates.create_org_and_node(database, environment)
    build_reference_bot(environment.engine, environment.registry, FIRST, _NAME, {})
    wait_until_healthy(start_container(environment.engine, _image(environment), _NAME, {}))
    adopt(database, environment.settings, _NAME, node=updates.NODE, org=updates.ORG)
    with database.transaction() as session:
        bot = session.scalars(sa.select(Bot)).one()
        visitors = [sign_in(session, bot, f"localhost:{port}", number) for number in range(_VISITORS)]
    variables = {
        **os.environ,
        "DATABASE_URL": environment.settings_for(database).database_url,
        "BOTS_DOMAIN": f"localhost:{port}",
        "GATEWAY_PORT": str(port),
    }
    with ExitStack() as stack:
        platform = _Platform(environment, database, variables, port, stack, bot.id, visitors, {})
        for name in _PROCESSES:
            platform.start(name)
        yield platform


def _update_repeatedly(platform: _Platform) -> Iterator[UpdateState]:
    for _ in range(UPDATES):
        yield platform.update()
        time.sleep(_SECONDS_BETWEEN)


def _measure(platform: _Platform, name: str, run: Callable[[], Iterable[UpdateState]]) -> tuple[str, ...]:
    """Run a scenario under load, and return its row."""
    before = platform.count_notes()
    with constant_load(platform.port, platform.visitors, rate=RATE, sockets=SOCKETS) as load:
        time.sleep(_SECONDS_BETWEEN)
        outcomes = Counter(run())
        time.sleep(_SECONDS_BETWEEN)
    report = load.report
    failures = ", ".join(f"{count} {what}" for what, count in sorted(report.failed.items()))
    return (
        name,
        ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in outcomes.items()),
        str(report.requests),
        f"{report.failed.total()} ({failures})" if failures else "0",
        f"{report.p50 * 1000:.1f} ms",
        f"{report.longest_wait:.1f} s",
        str(report.sockets),
        f"{report.longest_reconnect:.1f} s",
        f"{report.notes} / {platform.count_notes() - before}",
    )
