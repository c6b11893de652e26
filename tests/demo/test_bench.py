"""The benchmark's own arithmetic; what it measures is run by `make bench`."""

import pytest
import sqlalchemy as sa

from demo.bench import fleet, ticks
from demo.bench.tables import Table, cost_of
from portal.database import Database


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    Table("Sizes", ("", "ms"), [("small", "7"), ("large one", "1234")]).print()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["", "Sizes", "", f"{'ms':>18}", f"  small{'7':>11}", "  large one   1234"]


def test_a_cost_counts_the_queries_of_one_turn(database: Database) -> None:
    def two_queries() -> None:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            connection.execute(sa.text("SELECT 2"))

    begun_by_hand = database.engine.dialect.name == "sqlite"
    assert cost_of(two_queries, database.engine, turns=3).queries == 2 + begun_by_hand


def test_a_tick_asks_no_more_often_for_many_bots_than_for_few(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "BOTS", 200)
    costs = dict(ticks.follow(database))
    assert len(costs) == 7
    assert max(cost.queries for cost in costs.values()) < 60
