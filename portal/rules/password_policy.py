"""Policy for new passwords: long, and not made of common words. Used by every form that sets a password.

There are no rules about kinds of characters: they make passwords harder to remember, but hardly harder to guess.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

MIN_LENGTH = 15
MAX_LENGTH = 256

_MIN_UNGUESSABLE = 8
"""How many characters must not belong to a guessable part."""
_MIN_COPY_LENGTH = 4
"""Shorter parts occur twice in many good passwords."""
_MIN_WORD_LENGTH = 3
"""Shorter parts of names are ignored, because they occur in many good passwords."""
_KEYBOARD_ROWS = (
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjklm",
    "zxcvbnm",
    "yxcvbnm",
    "1234567890",
    "!@#$%^&*()_+",
)
_SUBSTITUTIONS = str.maketrans("013457@$!", "oleastasi")
_WORDS = """
1q2w3e4r 1qaz 2wsx 3edc access adidas admin administrator alexander amanda andrea andrew angel angels anthony
april apple arsenal asdf ashley august austin autumn babygirl bailey banana barcelona baseball basketball batman
blessed bonjour brandon buster butterfly changeme charlie cheese chelsea chocolate chris christ computer cookie
corvette daniel database default demo december diamond dragon eminem facebook family february ferrari flower
football forever fortnite freedom friday friends george ginger golden google guest hannah harley heaven
hello hockey hunter iloveyou instagram internet january jasmine jennifer jessica jesus jordan joshua july june
justin killer lakers letmein linkedin liverpool login lovely loveme maggie manager manchester march master
matrix matthew mercedes michael michelle microsoft minecraft monday monkey monster mustang myspace naruto nicole
nothing november october orange pass password passwort passwd pepper phoenix please pokemon princess purple
q1w2e3r4 qazwsx qwer qwerty ranger robert rockyou root samsung samantha saturday secret september server shadow
silver soccer sommer spiderman spring starwars summer sunday sunshine superman support system temp test testing
thomas thunder thursday tigger trustno1 tuesday twitter user wednesday welcome whatever william winter word
world yankees zaq1 zxcv
"""
_COMMON_WORDS = frozenset(_WORDS.split()) | {
    "correcthorsebatterystaple",
    "correct horse battery staple",
    "thequickbrownfox",
    "the quick brown fox",
    "tobeornottobe",
    "to be or not to be",
}
"""The parts of leaked passwords. Published lists hold few passwords of 15 or more characters, and most of those
consist of these words and digits, so a list of words covers more than a list of passwords."""


def find_problem(password: str, *, names: Iterable[str] = ()) -> str | None:
    """Return an error message for a weak password; None for an acceptable one.

    Args:
        password: the password as the user typed it.
        names: further guessable words: the product's name, the user's name and email.
    """
    if len(password) < MIN_LENGTH:
        return f"Use {MIN_LENGTH} characters or more, for example three or four unrelated words."
    if len(password) > MAX_LENGTH:
        return f"Use {MAX_LENGTH} characters or fewer."
    text = unicodedata.normalize("NFKC", password).casefold()
    copied = sum(end - start for start, end in _find_copies(text))
    if copied and len(text) - copied < MIN_LENGTH:
        return (
            f"This password is easy to guess: it has fewer than {MIN_LENGTH} characters without repeated parts. "
            "Use three or four unrelated words."
        )
    if _count_unguessable(text, names) < _MIN_UNGUESSABLE:
        return (
            "This password is easy to guess: it mostly consists of common words, names or patterns. "
            "Use three or four unrelated words."
        )
    return None


def _count_unguessable(text: str, names: Iterable[str]) -> int:
    """Return the number of characters that belong to no common word, name, pattern or copy of an earlier part."""
    words = _COMMON_WORDS | {word for name in names for word in _split_words(name)}
    guessable = {position for start, end in _find_copies(text) for position in range(start, end)}
    for spelling in {text, text.translate(_SUBSTITUTIONS)}:
        for start, end in (*_find_words(words, spelling), *_find_patterns(spelling)):
            guessable.update(range(start, end))
    return len(text) - len(guessable)


def _split_words(name: str) -> list[str]:
    words = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name).casefold())
    return [word for word in words if len(word) >= _MIN_WORD_LENGTH]


def _find_words(words: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    for word in words:
        start = text.find(word)
        while start >= 0:
            yield start, start + len(word)
            start = text.find(word, start + 1)


def _find_copies(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of parts that also occur earlier in the text."""
    start = 0
    while start < len(text):
        end = start + _MIN_COPY_LENGTH
        while end <= len(text) and text[start:end] in text[: end - 1]:
            end += 1
        if end > start + _MIN_COPY_LENGTH:
            yield start, end - 1
            start = end - 1
        else:
            start += 1


def _find_patterns(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of years, repetitions, sequences such as `abc` and `321`, and runs of adjacent keys."""
    for year in re.finditer(r"(19|20)\d\d", text):
        yield year.span()
    for repeated in re.finditer(r"(.+?)\1+", text, re.DOTALL):
        yield repeated.end(1), repeated.end()
    for start in range(len(text) - 2):
        first, second, third = map(ord, text[start : start + 3])
        if second - first == third - second in {-1, 1}:
            yield start, start + 3
        keys = text[start : start + 4]
        if len(keys) == 4 and any(keys in row or keys in row[::-1] for row in _KEYBOARD_ROWS):
            yield start, start + 4
