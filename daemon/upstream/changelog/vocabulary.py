"""The English words of `vocabulary.toml`. Used by `commits`, `changes`, `wording` and `phrasing`."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from importlib.resources import files


class Kind(StrEnum):
    """What a commit does, for grouping. The values are the headings of the internal changelog."""

    FEATURE = "Features"
    IMPROVEMENT = "Improvements"
    FIX = "Fixes"
    DEPENDENCY = "Dependencies"
    REFACTORING = "Refactoring"
    DOCUMENTATION = "Documentation"
    MAINTENANCE = "Tests, build and maintenance"
    OTHER = "Other changes"


_DATA = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))


def _inverted(table: dict[str, list[str]]) -> dict[str, str]:
    return {word: key for key, words in table.items() for word in words}


KIND_OF_TYPE = {word: Kind[kind.upper()] for word, kind in _inverted(_DATA["types"]).items()}
"""Types of conventional commits, and what is written in their place."""

KIND_OF_FIRST_WORD = {word: Kind[kind.upper()] for word, kind in _inverted(_DATA["first_words"]).items()}
"""First words of subjects without a type."""

TYPE_OF_EMOJI = _inverted(_DATA["emoji"])
"""Gitmoji and the type they stand for."""

PAST: dict[str, str] = _DATA["past"]
"""Verbs and their past tense."""

NOW: dict[str, str] = _DATA["now"]
"""Verbs and what follows "Now"."""

ALSO_NOUNS = frozenset(_DATA["words"]["also_nouns"])
"""Verbs that are also nouns."""

VAGUE = frozenset(_DATA["words"]["vague"])
"""Words that say nothing."""

NAMES = frozenset(_DATA["words"]["names"])
"""Names that keep their capital letter."""

NAMES_IN_CAMEL_CASE: dict[str, str] = {name.lower(): name for name in _DATA["words"]["names_in_camel_case"]}
"""Names with capital letters inside, by their lower-case form."""

ACRONYMS = frozenset(_DATA["words"]["acronyms"])
"""Acronyms in upper case."""
