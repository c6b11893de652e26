"""Moving a row through its state machine by compare-and-set, so that of two movers exactly one wins."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import CursorResult
from sqlalchemy.orm import Session


class Stateful(Protocol):
    """A mapped class with an id, a state, and the table of moves its state allows."""

    TRANSITIONS: ClassVar[dict[Any, frozenset[Any]]]
    id: Any
    state: Any


Row = TypeVar("Row", bound=Stateful)


class ForbiddenMove(Exception):
    """A program error: the state machine has no such arrow."""


def move(session: Session, row: Row, old: StrEnum, new: StrEnum, **values: Any) -> bool:
    """Set `row.state` from `old` to `new` together with `values`, unless somebody else moved it first.

    Returns:
        True when this call moved the row; False when its state was no longer `old`. The row is read again either way.

    Raises:
        ForbiddenMove: when `TRANSITIONS` has no arrow from `old` to `new`.
    """
    kind = type(row)
    if new not in kind.TRANSITIONS[old]:
        raise ForbiddenMove(f"{kind.__name__}: {old} -> {new}")
    session.flush()
    statement = (
        sa.update(kind)
        .where(kind.id == row.id, kind.state == old)
        .values(state=new, **values)
        .execution_options(synchronize_session=False)
    )
    result = cast("CursorResult[Any]", session.execute(statement))
    session.refresh(row)
    return result.rowcount == 1
