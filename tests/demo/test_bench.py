"""Tests of the benchmarks' tables, query counts and sample fleet. `make bench` runs the measurements."""

import pytest
import sqlalchemy as sa

from demo.bench import fleet, ticks
from demo.bench.tables import Table, measure_cost
from portal.database import Database


def test_table_aligns_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Table("Sizes", ("", "ms"), [("small", "7"), ("large one", "1234")]).print()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["", "Sizes", "", f"{'ms':>18}", f"  small{'7':>11}", "  large one   1234"]


def test_cost_counts_the_queries_of_one_repetition(database: Database) -> None:
    def two_queries() -> None:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            connection.execute(sa.text("SELECT 2"))

    begin_statements = database.engine.dialect.name == "sqlite"
    assert measure_cost(two_queries, database.engine, repetitions=3).queries == 2 + begin_statements


@pytest.mark.slow
def test_number_of_queries_of_a_tick_does_not_grow_with_the_fleet(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "BOTS", 200)
    costs = dict(ticks.measure_rollout(database))
    assert len(costs) == 7
    assert max(cost.queries for cost in costs.values()) < 60
