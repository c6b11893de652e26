"""Long lists, a page at a time."""

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import User
from portal.services.paging import load_page


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
def test_a_page_of_three(database: Database, rows: int, wanted: int, page: tuple[int, int], lines: list[int]) -> None:
    with database.transaction() as session:
        for number in range(rows):
            address = f"{number}@example.com"
            session.add(User(email=address, email_normalized=address, name=str(number)))
        session.flush()
        query = sa.select(User).order_by(User.name)
        listing = load_page(session, query, wanted, 3, lambda found: [int(user.name) for user in found])
    assert (listing.lines, listing.total, (listing.page, listing.pages)) == (lines, rows, page)
