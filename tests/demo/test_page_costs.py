"""The pages of a fleet need the same number of statements at any size, and their bodies stay small."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.bench import pages
from portal.database import Database
from portal.models.encrypted import use_keys

MAX_BYTES = 100_000
SMALL, LARGE = 110, 220
"""More bots than the largest page lists, so that both fleets fill it."""


@pytest.mark.slow
@pytest.mark.requests
def test_pages_need_the_same_statements_at_any_size(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use_keys("a key for tests, long enough to be accepted")
    source = request.getfixturevalue(database_kind)
    counts, sizes = [], {}
    for bots in (SMALL, LARGE):
        folder = tmp_path / str(bots)
        folder.mkdir()
        with source.empty(folder) as url:
            database = Database(url)
            found = list(pages.measure_pages(database, bots, repetitions=1))
            database.dispose()
        counts.append({page.name: cost.queries for page, cost, _size in found})
        sizes = {page.name: size for page, _cost, size in found}

    small, large = counts
    assert len(small) > 30
    assert large == small
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}
