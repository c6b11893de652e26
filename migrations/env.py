"""Alembic's environment: runs migrations on the database of the current Flask application. Used by Flask-Migrate."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context
from flask import current_app
from sqlalchemy.engine import Connection

from portal.models import Base
from portal.models.base import UtcDateTime
from portal.models.encrypted import EncryptedJSON
from portal.models.outside_text import OutsideJSON, OutsideLine, OutsideText


def _render_type(kind: str, item: Any, _context: Any) -> str | bool:
    """Render Flotilla's column types as plain SQLAlchemy types, so that migrations never import models."""
    if kind == "type":
        if isinstance(item, UtcDateTime):
            return "sa.DateTime(timezone=True)"
        if isinstance(item, EncryptedJSON):
            return "sa.Text()"
        if isinstance(item, OutsideJSON | OutsideLine | OutsideText):
            return f"sa.{item.impl_instance!r}"
        if isinstance(item, sa.Enum):
            return f"sa.String(length={item.length})"
    return False


def run() -> None:
    """Run the migrations in one transaction.

    SQLite's foreign keys are off, because batch mode recreates tables and would delete rows of child tables.
    """
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
            render_item=_render_type,
        )
        with context.begin_transaction():
            context.run_migrations()
            if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                raise RuntimeError(f"the migration would leave rows with broken foreign keys: {broken[:5]}")
        # New indexes have no statistics, and SQLite never collects any automatically.
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
        if sqlite:
            _set_foreign_keys(connection, "ON")


def _set_foreign_keys(connection: Connection, state: str) -> None:
    # Executed by the driver, because SQLAlchemy would begin a transaction, in which this pragma has no effect.
    driver_connection = connection.connection.dbapi_connection
    if driver_connection is not None:
        driver_connection.execute(f"PRAGMA foreign_keys = {state}")  # type: ignore[attr-defined]


run()
