"""The names of people and organizations: one line that can be seen."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 100

_BLANK = frozenset(" \u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that Unicode calls printable although they show nothing."""
_OURS = frozenset({"your provider", "deleted user", "somebody", "flotilla"})
"""How pages and logs call those whose names they do not tell: nobody is to be taken for one of them."""


def clean(name: str) -> str:
    """The name in the one spelling that is stored, without the blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def find_problem(name: str) -> str | None:
    """What is wrong with a cleaned name, and what to do; None for a good one."""
    if len(name) > MAX_LENGTH or not name.isprintable() or set(name) <= _BLANK:
        return f"A name has 1 to {MAX_LENGTH} printable characters."
    if unicodedata.normalize("NFKC", name).casefold() in _OURS:
        return f"Choose another name: “{name}” is what logs call others."
    return None
