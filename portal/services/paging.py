"""Long lists, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

Row = TypeVar("Row")
Line = TypeVar("Line")


@dataclass(frozen=True)
class Page(Generic[Line]):
    """One page of a long list."""

    lines: list[Line]
    total: int
    """So many lines have all pages together."""
    page: int
    """Number of this one, from 1."""
    pages: int
    """How many there are; at least one."""


def load_page(
    session: Session,
    query: sa.Select[Row],
    page: int,
    per_page: int,
    complete: Callable[[Sequence[Row]], list[Line]],
) -> Page[Line]:
    """Read one page of a long list.

    Args:
        session: the transaction.
        query: all rows, in their order.
        page: its number, from 1; beyond the last one it is the last.
        per_page: so many rows are on a page.
        complete: makes lines of the rows of this page.
    """
    total = session.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery())) or 0
    pages = max(1, -(-total // per_page))
    page = max(1, min(page, pages))
    rows = session.scalars(query.limit(per_page).offset((page - 1) * per_page)).all()
    return Page(complete(rows), total, page, pages)
