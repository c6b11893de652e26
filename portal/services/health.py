"""Whether what a process depends on works."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session


def database_answers(session: Session) -> bool:
    """Whether a trivial question to the database is answered."""
    try:
        session.execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True
