"""Columns for text from outside, which is cleaned and cut when it is stored. Used by models.

Flotilla does not choose such text: container logs, health answers, errors of registries, engines and mail servers,
changelogs, user agents. A database may refuse it as it is, and a row that cannot be written stops what depends on it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Dialect
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from portal.rules.outside_text import clean_line, clean_text

_MAX_JSON_STRING = 10_000


class OutsideText(TypeDecorator[str]):
    """A column for text of several lines.

    Args:
        limit: maximum length in characters.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Clean text for the database."""
        return None if value is None else clean_text(value, self.limit)


class OutsideLine(TypeDecorator[str]):
    """A column for one line of text.

    Args:
        length: maximum length in characters, also that of the column.
    """

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Clean a line for the database."""
        return None if value is None else clean_line(value, self.length)


class OutsideJSON(TypeDecorator[Any]):
    """A column for JSON values. Every string and key in them is cleaned and cut to 10,000 characters."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Clean a value for the database."""
        return _clean_value(value)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Return the type of a value that is compared with a part of the column, as `sa.JSON` chooses it."""
        return sa.JSON().coerce_compared_value(op, value)


def _clean_value(value: Any) -> Any:
    match value:
        case str():
            return clean_text(value, _MAX_JSON_STRING)
        case dict():
            return {clean_text(key, _MAX_JSON_STRING): _clean_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean_value(item) for item in value]
        case _:
            return value
