"""Tests of the benchmarks' tables, query counts and sample fleet. `make bench` runs the measurements."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from demo.bench import pages, ticks
from demo.bench.tables import Table, measure_cost
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.services.rollouts import page_versions


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
def test_the_number_of_statements_of_a_tick_does_not_grow_with_the_fleet(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use_keys("a key for tests, long enough to be accepted")
    source = request.getfixturevalue(database_kind)
    counts = []
    for bots in (300, 600):
        folder = tmp_path / str(bots)
        folder.mkdir()
        with source.empty(folder) as url:
            database = Database(url)
            costs = dict(ticks.measure_ticks(database, bots, repetitions=1))
            database.dispose()
        counts.append({scene: cost.queries for scene, cost in costs.items()})

    small, large = counts
    assert len(small) == 6
    assert small == large


@pytest.mark.slow
def test_every_measured_page_answers_with_less_than_100_kilobytes(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(page_versions, "_slot", lambda _now: 0)
    measured = list(pages.measure_pages(database, 40, repetitions=1))

    assert all(cost.queries > 0 for _page, cost, _size in measured)
    assert {page.name: size for page, _cost, size in measured if size >= 100_000} == {}
    assert all(size == 0 for page, _cost, size in measured if page.is_unchanged)
