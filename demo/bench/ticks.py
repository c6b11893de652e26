"""Benchmark of one tick of the orchestrator with a large fleet. Used by `demo.bench.__main__` and its test."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.rollout import orchestrator
from demo.bench import fleet
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Cost, Table, measure_cost
from portal.database import Database
from portal.models import utcnow

_REPETITIONS = 5


def measure(environment: BenchEnvironment) -> Table:
    """Measure all kinds of ticks of one rollout."""
    table = Table(f"One tick of the orchestrator, {fleet.BOTS} bots in a rollout", ("", "ms", "queries"))
    with environment.every_database() as databases:
        for kind, database in databases.items():
            table.rows.extend((f"{kind}: {what}", *cost.cells) for what, cost in measure_rollout(database))
    return table


def measure_rollout(database: Database) -> Iterator[tuple[str, Cost]]:
    """Run one rollout to its end, and yield the description and the cost of each kind of tick."""
    with database.transaction() as session:
        operator, release = fleet.create_fleet(session)

    def start() -> None:
        with database.transaction() as session:
            fleet.start_rollout(session, release, operator)

    due: list[str] = []

    def tick() -> None:
        due[:] = [update.update_id for update in orchestrator.tick(database, utcnow(), None)]

    yield "nothing to do", measure_cost(tick, database.engine, _REPETITIONS)
    yield "an operator starts the rollout (not a tick)", measure_cost(start, database.engine)
    yield "starts the canary's wave", measure_cost(tick, database.engine)
    yield "steady, while the canary waits for a worker", measure_cost(tick, database.engine, _REPETITIONS)
    fleet.complete_updates(database, due)
    yield f"starts a wave of {fleet.BOTS - 1}", measure_cost(tick, database.engine)
    yield "steady, in the middle of that wave", measure_cost(tick, database.engine, _REPETITIONS)
    while due:
        fleet.complete_updates(database, due)
        last = measure_cost(tick, database.engine)
    yield "completes", last
