"""Benchmark of a platform on which nothing happens: the cost of looking after bots. Used by `demo.bench.__main__`."""

from __future__ import annotations

import time
from datetime import timedelta

import sqlalchemy as sa

from demo.bench.databases import BenchDatabases
from demo.bench.environment import BenchEnvironment
from demo.bench.fleet import BOTS
from demo.bench.rollout.simulation import running_platform
from demo.bench.tables import Table
from portal.database import Database
from portal.models import Bot, BotState, utcnow

_SILENT_BOTS = 10
"""Bots that never answer. All belong to different nodes."""
_SETTLE_SECONDS, _MEASURED_SECONDS = 45, 60
_PERIOD = timedelta(seconds=20)
"""A node is probed every 15 seconds; its probe takes some more."""


def measure(environment: BenchEnvironment) -> Table:
    """Measure a platform with the usual number of bots."""
    return measure_size(environment.databases, BOTS)


def measure_size(databases: BenchDatabases, bots: int) -> Table:
    """Measure a platform with a number of bots."""
    results = []
    for kind in databases.kinds:
        with databases.new(kind) as database:
            results.append(_measure_idle(database, bots))
    note = f"{_SILENT_BOTS} bots never answer. The engines and bots only pretend, and are not included."
    table = Table(
        f"An idle platform with {bots} bots, during {_MEASURED_SECONDS} seconds", ("", *databases.kinds), note=note
    )
    table.rows.extend((row, *(result[row] for result in results)) for row in results[0])
    return table


def _measure_idle(database: Database, bots: int) -> dict[str, str]:
    with running_platform(database, bots, silent=_SILENT_BOTS) as platform:
        time.sleep(_SETTLE_SECONDS)  # the first probes change the states of bots
        before, started = platform.read_usage(), time.monotonic()
        time.sleep(_MEASURED_SECONDS)
        seconds, usage = time.monotonic() - started, platform.read_usage().since(before)
        seen = _count(database, Bot.checked_at > utcnow() - _PERIOD)
        unhealthy = _count(database, Bot.state == BotState.UNHEALTHY)
    cpu = {"all processes": sum(usage.cpu_seconds.values()), **usage.cpu_seconds}
    return {
        **{f"% of a core, {name}": f"{value / seconds * 100:.1f}" for name, value in cpu.items()},
        **{f"statements per second, {name}": f"{value / seconds:.0f}" for name, value in usage.statements.items()},
        "engine calls per second": f"{usage.engine_calls.total() / seconds:.1f}",
        f"bots seen in the last {_PERIOD.seconds} seconds": str(seen),
        "bots found unhealthy": str(unhealthy),
    }


def _count(database: Database, condition: sa.ColumnElement[bool]) -> int:
    with database.reading() as session:
        return session.scalars(sa.select(sa.func.count()).select_from(Bot).where(condition)).one()
