"""Benchmark of one tick with a large fleet, compared with a small one. Used by `demo.bench.__main__` and its test."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.rollout import orchestrator
from demo.bench import fleet
from demo.bench.databases import BenchDatabases
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Cost, Table, measure_cost
from demo.bench.tick_scenes import ROLLOUTS, Scenes
from portal.database import Database
from portal.models import utcnow

SMALL = 100
"""Number of bots of the fleet with which larger fleets are compared."""

_REPETITIONS = 20


def measure(environment: BenchEnvironment) -> Table:
    """Measure all kinds of ticks."""
    return measure_size(environment.databases, fleet.BOTS)


def measure_size(databases: BenchDatabases, bots: int) -> Table:
    """Measure all kinds of ticks with a fleet of this size, and the ratio to a fleet of 100 bots."""
    head = (
        "",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        "statements",
        f"with {SMALL} bots: p50 ms",
        "CPU ms",
        "ratio p50",
        "CPU",
    )
    note = "CPU is that of the scheduler alone, without a PostgreSQL server, and does not depend on other processes."
    table = Table(f"One tick of the orchestrator, {bots} bots", head, note=note)
    for kind in databases.kinds:
        with databases.new(kind) as small:
            base = dict(measure_ticks(small, SMALL))
        with databases.new(kind) as large:
            for scene, cost in measure_ticks(large, bots):
                table.rows.append((f"{kind}: {scene}", *_describe(cost, base[scene])))
    return table


def measure_ticks(database: Database, bots: int, repetitions: int = _REPETITIONS) -> Iterator[tuple[str, Cost]]:
    """Measure a tick in several states of a fleet, and yield the description and the cost of each.

    Args:
        database: an empty, migrated database.
        bots: number of bots of the fleet.
        repetitions: number of ticks in each state.
    """

    def tick() -> None:
        orchestrator.tick(database, utcnow(), None)

    def measure_steady() -> Cost:
        tick()  # what follows changes nothing
        return measure_cost(tick, database.engine, repetitions)

    scenes = Scenes(database, bots)
    scenes.all_bots_current()
    yield "nothing to do", measure_steady()
    scenes.all_bots_outdated()
    yield "all bots outdated, tenants manual", measure_steady()
    scenes.all_bots_join()
    yield "an automatic rollout opens, and bots join it", measure_cost(tick, database.engine)
    while scenes.count_updates() < bots:
        tick()
    yield "an automatic rollout waits for the update hour", measure_steady()
    scenes.rollouts_in_the_middle(1)
    yield "one rollout in the middle", measure_steady()
    scenes.rollouts_in_the_middle(ROLLOUTS)
    yield f"{ROLLOUTS} rollouts of all bots in the middle", measure_steady()


def _describe(cost: Cost, base: Cost) -> tuple[str, ...]:
    seconds = (cost.seconds, cost.slowest, cost.cpu_seconds)
    base_seconds = (base.seconds, base.cpu_seconds)
    ratios = (cost.seconds / base.seconds, cost.cpu_seconds / base.cpu_seconds)
    return (
        *(f"{value * 1000:.0f}" for value in seconds),
        str(cost.queries),
        *(f"{value * 1000:.0f}" for value in base_seconds),
        *(f"{value:.1f}" for value in ratios),
    )
