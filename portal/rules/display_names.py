"""Rules for the names of people and organizations. Used by forms and services that store such a name."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 100

_BLANK = frozenset(" \u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that Unicode classifies as printable although they are invisible."""
_RESERVED = frozenset({"your provider", "deleted user", "somebody", "a visitor", "flotilla"})
"""Names that pages and logs show instead of a real name. A user with such a name could pass as another one."""


def normalize(name: str) -> str:
    """Return the form in which names are stored: Unicode NFC, without surrounding whitespace."""
    return unicodedata.normalize("NFC", name).strip()


def find_problem(name: str) -> str | None:
    """Return an error message for an invalid normalized name; None for a valid one."""
    if len(name) > MAX_LENGTH or not name.isprintable() or set(name) <= _BLANK:
        return f"Enter a name of 1 to {MAX_LENGTH} printable characters."
    if unicodedata.normalize("NFKC", name).casefold() in _RESERVED:
        return f"“{name}” is reserved. Choose another name."
    return None
