"""Pages of long lists. Used by services whose lists have a page number."""

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
    """Number of lines on all pages together."""
    page: int
    """Number of this page, from 1."""
    pages: int
    """Number of pages, at least 1."""


def load_page(
    session: Session,
    query: sa.Select[Row],
    page: int,
    per_page: int,
    complete: Callable[[Sequence[Row]], list[Line]],
) -> Page[Line]:
    """Load one page of a long list.

    Args:
        session: the transaction.
        query: the query of all rows, in order.
        page: number of the page, from 1; limited to the existing pages.
        per_page: number of rows on a page.
        complete: converts the rows of the page to lines.
    """
    total = session.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery())) or 0
    pages = max(1, -(-total // per_page))
    page = max(1, min(page, pages))
    rows = session.scalars(query.limit(per_page).offset((page - 1) * per_page)).all()
    return Page(complete(rows), total, page, pages)
