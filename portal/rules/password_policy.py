"""What a new password must be: long, and not made of what is tried first. No rules about kinds of characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

MIN_LENGTH = 15
MAX_LENGTH = 256

_MUST_REMAIN = 8
_SHORTEST_NAME = 3
_ROWS = ("qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjklm", "zxcvbnm", "yxcvbnm", "1234567890", "!@#$%^&*()_+")
_DISGUISES = str.maketrans("013457@$!", "oleastasi")
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
_COMMON = frozenset(_WORDS.split()) | {
    "correcthorsebatterystaple",
    "correct horse battery staple",
    "thequickbrownfox",
    "the quick brown fox",
    "tobeornottobe",
    "to be or not to be",
}
"""What the published lists of leaked passwords are made of, as far as it can matter: hardly any password of 15
characters is in them, but most of those are these words, one after another, with digits behind."""


def find_problem(password: str, *, names: Iterable[str] = ()) -> str | None:
    """What is wrong with a new password, as a sentence; None when it is good.

    Args:
        password: as it was typed.
        names: what an attacker would try first: the product's name, the person's own name and address.
    """
    if len(password) < MIN_LENGTH:
        return f"Use {MIN_LENGTH} characters or more: three or four words that do not belong together, for example."
    if len(password) > MAX_LENGTH:
        return f"Use {MAX_LENGTH} characters or fewer."
    if _unguessable(password, names) < _MUST_REMAIN:
        return (
            "This is easy to guess: it is made of common words, names or patterns, and hardly anything else. "
            "Take three or four words that do not belong together."
        )
    return None


def _unguessable(password: str, names: Iterable[str]) -> int:
    """How many characters remain when everything guessable is crossed out."""
    text = unicodedata.normalize("NFKC", password).casefold()
    words = _COMMON | {part for name in names for part in _parts(name)}
    crossed: set[int] = set()
    for spelling in {text, text.translate(_DISGUISES)}:
        for start, end in (*_found(words, spelling), *_patterns(spelling)):
            crossed.update(range(start, end))
    return len(text) - len(crossed)


def _parts(name: str) -> list[str]:
    parts = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name).casefold())
    return [part for part in parts if len(part) >= _SHORTEST_NAME]


def _found(words: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    for word in words:
        start = text.find(word)
        while start >= 0:
            yield start, start + len(word)
            start = text.find(word, start + 1)


def _patterns(text: str) -> Iterator[tuple[int, int]]:
    """Years, what repeats what stands before it, runs such as `abc` and `321`, and walks along the keyboard."""
    for year in re.finditer(r"(19|20)\d\d", text):
        yield year.span()
    for repeated in re.finditer(r"(.+?)\1+", text, re.DOTALL):
        yield repeated.end(1), repeated.end()
    for start in range(len(text) - 2):
        first, second, third = map(ord, text[start : start + 3])
        if second - first == third - second in {-1, 1}:
            yield start, start + 3
        walk = text[start : start + 4]
        if len(walk) == 4 and any(walk in row or walk in row[::-1] for row in _ROWS):
            yield start, start + 4
