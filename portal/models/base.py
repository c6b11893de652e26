"""Parts that all models share: the base class, ids, moments in UTC, enum columns. Used by every model."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Dialect, MetaData
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from portal.models.outside_text import OutsideJSON

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_id() -> str:
    """Return an opaque id of 80 random bits that is safe in URLs, container names and labels."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(16))


def utcnow() -> datetime:
    """Return the current moment in UTC, aware of its zone."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A column for moments in UTC. SQLite has no time zones, so its values are stored without a zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a moment to UTC. A moment without a zone is ambiguous and raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all mapped classes. Every constraint has a name, so that migrations can drop it on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy, which declares it so
        datetime: UtcDateTime(),
        dict[str, Any]: OutsideJSON(),
        list[str]: OutsideJSON(),
    }


def partial_index(name: str, column: str, condition: str) -> sa.Index:
    """Return an index of the rows for which a condition holds.

    A database uses the index only for a query that contains the condition literally, without bound parameters.
    """
    return sa.Index(name, column, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


def literal(value: StrEnum) -> sa.ColumnElement[Any]:
    """Return a value that is written into the statement, for queries that use a partial index."""
    return sa.literal_column(f"'{value}'")


def choice(kind: type[StrEnum]) -> sa.Enum:
    """Return the column type for an enum, stored as plain text so that a new value needs no migration."""
    return sa.Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )
