"""A cache of compiled SQL statements for all engines of a test process. Used by `tests/conftest.py`.

Every test creates engines, and SQLAlchemy caches compiled statements per engine. Without a shared cache the tests
spend a third of their time compiling the same statements again.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

_SIZE = 5000


def share_compiled_statements() -> None:
    """Make all engines use one cache, in which two dialects of the same class are equal."""
    cache: LRUCache[Any, Any] = LRUCache(_SIZE)
    # An engine assigns its own cache when it is created; the setter ignores that cache.
    replacements: dict[Any, dict[str, Any]] = {
        Engine: {"_compiled_cache": property(lambda _: cache, lambda _, __: None)},
        DefaultDialect: {
            "__eq__": lambda self, other: type(self) is type(other),
            "__hash__": lambda self: hash(type(self)),
        },
    }
    for owner, members in replacements.items():
        for name, member in members.items():
            setattr(owner, name, member)
