"""Alembic's environment: migrates the database of the Flask application at hand."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context
from flask import current_app
from sqlalchemy.engine import Connection

from portal.models import Base
from portal.models.base import UtcDateTime
from portal.models.encrypted import EncryptedJSON


def _plain_type(kind: str, item: Any, _context: Any) -> str | bool:
    """Write our own column types as what they are in the database, so that old migrations never import models."""
    if kind == "type":
        if isinstance(item, UtcDateTime):
            return "sa.DateTime(timezone=True)"
        if isinstance(item, EncryptedJSON):
            return "sa.Text()"
        if isinstance(item, sa.Enum):
            return f"sa.String(length={item.length})"
    return False


def run() -> None:
    """Migrate in one transaction, with SQLite's foreign keys off: batch mode would cascade deletes into children."""
    engine = current_app.extensions["sqlalchemy"].engine
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            _set_foreign_keys(connection, "OFF")
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=sqlite,
            compare_type=True,
            render_item=_plain_type,
        )
        with context.begin_transaction():
            context.run_migrations()
            if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                raise RuntimeError(f"the migration would leave rows that point nowhere: {broken[:5]}")
        if sqlite:
            _set_foreign_keys(connection, "ON")


def _set_foreign_keys(connection: Connection, state: str) -> None:
    # On the bare connection: SQLAlchemy would begin a transaction first, in which this pragma does nothing.
    bare = connection.connection.dbapi_connection
    if bare is not None:
        bare.execute(f"PRAGMA foreign_keys = {state}")  # type: ignore[attr-defined]


run()
