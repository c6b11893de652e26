"""What one look of the orchestrator costs while it leads a thousand bots through a rollout."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.rollout import orchestrator
from demo.bench import fleet
from demo.bench.place import BenchEnvironment
from demo.bench.tables import Cost, Table, cost_of
from portal.database import Database
from portal.models import utcnow

_TURNS = 5


def measure(place: BenchEnvironment) -> Table:
    """Follow one rollout from its start to its end."""
    table = Table(f"One tick of the orchestrator, {fleet.BOTS} bots in a rollout", ("", "ms", "queries"))
    with place.every_database() as databases:
        for kind, database in databases.items():
            table.rows.extend((f"{kind}: {what}", *cost.cells) for what, cost in follow(database))
    return table


def follow(database: Database) -> Iterator[tuple[str, Cost]]:
    """Every kind of tick of one rollout from before its start to its end, in words, with what it costs."""
    with database.transaction() as session:
        operator, release = fleet.found(session)

    def begin() -> None:
        with database.transaction() as session:
            fleet.start(session, release, operator)

    due: list[str] = []

    def tick() -> None:
        due[:] = [update.update_id for update in orchestrator.tick(database, utcnow())]

    yield "nothing to do", cost_of(tick, database.engine, _TURNS)
    yield "an operator starts the rollout (no tick)", cost_of(begin, database.engine)
    yield "cuts the canary's wave", cost_of(tick, database.engine)
    yield "steady, while the canary waits for a worker", cost_of(tick, database.engine, _TURNS)
    fleet.work(database, due)
    yield f"cuts a wave of {fleet.BOTS - 1}", cost_of(tick, database.engine)
    yield "steady, in the middle of that wave", cost_of(tick, database.engine, _TURNS)
    while due:
        fleet.work(database, due)
        last = cost_of(tick, database.engine)
    yield "completes", last
