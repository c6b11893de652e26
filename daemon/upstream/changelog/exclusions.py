"""Lists of words and phrases that match a text however it is written. Used by `release_notes` and `rewriter`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from daemon.upstream.scan.hosted_mode import HostedModeContext

_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True)
class WordList:
    """Words and phrases to find in texts.

    A word matches with the endings of plurals and verbs; ``*`` stands for any letters. The words of a phrase match
    with anything between them that is not a letter or digit, in camelCase, and written together.

    Attributes:
        words: The list.
    """

    words: tuple[str, ...]

    def found_in(self, text: str) -> bool:
        """Return whether a text contains any of the words."""
        return any(self._pattern.search(form) for form in normal_forms(text))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        phrases = [_phrase_pattern(word) for word in self.words]
        return re.compile(f" (?:{'|'.join(phrases)}) ") if phrases else _NEVER


def excluded_subjects(context: HostedModeContext) -> WordList:
    """Return the words that no user-facing text may contain: the changelog's list and the scan's identifiers."""
    identifiers = (f"*{_CAMEL_CASE.sub(' ', word)}" for word in context.scan_words)
    return WordList((*context.excluded_words, *identifiers))


def normal_forms(text: str) -> tuple[str, str]:
    """Return a text as lower-case words between single spaces, without and with camelCase taken apart."""
    visible = "".join(
        character for character in unicodedata.normalize("NFKC", text) if unicodedata.category(character) != "Cf"
    )
    return _joined(_WORD.findall(visible)), _joined(_WORD.findall(_CAMEL_CASE.sub(" ", visible)))


def _joined(words: Iterable[str]) -> str:
    # Two spaces let the patterns of neighbouring words each find their own border.
    return f" {'  '.join(words)} ".casefold()


def _phrase_pattern(phrase: str) -> str:
    words = [word.casefold() for word in re.findall(r"\*?[^\W_*]+\*?", phrase)]
    if not words:
        raise ValueError(phrase)
    return " *".join([*(_word_pattern(word) for word in words[:-1]), _with_endings(words[-1])])


def _word_pattern(word: str) -> str:
    return "".join("[^ ]*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", word))


def _with_endings(word: str) -> str:
    if word.endswith("*"):
        return _word_pattern(word)
    if word.endswith("e"):
        return f"{_word_pattern(word[:-1])}(?:e(?:s|d|rs?)?|ing)"
    return f"{_word_pattern(word)}(?:e?s|ed|ers?|ing)?"
