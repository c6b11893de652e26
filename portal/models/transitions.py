"""State transitions by compare-and-set: of two processes that move a row, one wins. Used by services and jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import CursorResult
from sqlalchemy.orm import Session

from portal.models.base import Base


class HasState(Protocol):
    """A mapped class with an id, a state, and the table of transitions that each state allows."""

    TRANSITIONS: ClassVar[dict[Any, frozenset[Any]]]
    id: Any
    state: Any


Row = TypeVar("Row", bound=HasState)
Table = TypeVar("Table", bound=Base)


class ForbiddenTransition(Exception):
    """A program error: `TRANSITIONS` does not allow this transition."""


def move(session: Session, row: Row, old: StrEnum, new: StrEnum, **values: Any) -> bool:
    """Change `row.state` from `old` to `new` and set `values`, unless another process moved the row first.

    Returns:
        True when this call moved the row; False when its state was no longer `old`. The row is refreshed either way.

    Raises:
        ForbiddenTransition: `TRANSITIONS` does not allow the transition from `old` to `new`.
    """
    kind = type(row)
    if new not in kind.TRANSITIONS[old]:
        raise ForbiddenTransition(f"{kind.__name__}: {old} -> {new}")
    session.flush()
    conditions = (kind.id == row.id, kind.state == old)
    if update_and_load(session, cast("type[Base]", kind), *conditions, state=new, **values) is not None:
        return True
    session.refresh(row)
    return False


def update_and_load(
    session: Session, table: type[Table], *conditions: sa.ColumnElement[bool], **values: Any
) -> Table | None:
    """Update the one row of `table` for which all `conditions` hold, and load it, in one statement (compare-and-set).

    Returns:
        The row, refreshed if it was loaded in `session` before; None if the conditions do not hold.
    """
    statement = sa.update(table).where(*conditions).values(**values).returning(table)
    options = {"synchronize_session": False, "populate_existing": True}
    return session.scalars(statement, execution_options=options).one_or_none()


def update_where(session: Session, table: type[Base], *conditions: sa.ColumnElement[bool], **values: Any) -> int:
    """Update the rows of `table` for which all `conditions` hold, in one statement (compare-and-set).

    Rows that are already loaded in `session` keep their old values. Refresh them before you read them.

    Returns:
        The number of changed rows; 0 means that another process was faster.
    """
    statement = sa.update(table).where(*conditions).values(**values)
    result = session.execute(statement.execution_options(synchronize_session=False))
    return cast("CursorResult[Any]", result).rowcount
