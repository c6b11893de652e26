"""Pages of long lists."""

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import User
from portal.services.paging import load_page
from tests import factories


@pytest.mark.parametrize(
    ("rows", "wanted", "page", "lines"),
    [
        (0, 1, (1, 1), []),
        (2, 1, (1, 1), [0, 1]),
        (3, 1, (1, 1), [0, 1, 2]),
        (4, 1, (1, 2), [0, 1, 2]),
        (4, 2, (2, 2), [3]),
        (4, 9, (2, 2), [3]),
        (4, 10**20, (2, 2), [3]),
        (4, 0, (1, 2), [0, 1, 2]),
        (4, -3, (1, 2), [0, 1, 2]),
    ],
)
def test_page_numbers_are_limited_to_existing_pages(
    database: Database, rows: int, wanted: int, page: tuple[int, int], lines: list[int]
) -> None:
    with database.transaction() as session:
        for number in range(rows):
            factories.user(session, str(number))
        query = sa.select(User).order_by(User.name)
        loaded = load_page(session, query, wanted, 3, lambda found: [int(user.name) for user in found])
    assert (loaded.lines, loaded.total, (loaded.page, loaded.pages)) == (lines, rows, page)
