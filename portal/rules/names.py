"""The names of people and organizations: one line that can be seen."""

from __future__ import annotations

import unicodedata

LONGEST = 100

_BLANK = frozenset(" \u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that Unicode calls printable although they show nothing."""


def cleaned(name: str) -> str:
    """The name in the one spelling that is stored, without the blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def problem_of(name: str) -> str | None:
    """What is wrong with a cleaned name, and what to do; None for a good one."""
    if len(name) > LONGEST or not name.isprintable() or set(name) <= _BLANK:
        return f"A name has 1 to {LONGEST} printable characters."
    return None
