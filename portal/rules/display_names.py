"""Rules for the names of people and organizations. Used by forms and services that store such a name."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib import import_module
from types import ModuleType

MAX_LENGTH = 100

_BLANK = frozenset(" \u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that Unicode classifies as printable although they are invisible."""
_RESERVED = (
    "provider",
    "the provider",
    "operator",
    "an operator",
    "the operator",
    "deleted user",
    "a deleted user",
    "somebody",
    "a visitor",
    "an unknown address",
    "flotilla",
)
"""Names that pages, logs and mails show instead of a real name. A user with such a name could pass as another one."""
_PROVIDER = "your provider"
"""The name of operators. No name may contain it, such as "Your provider (support)"."""
_EAST_ASIAN = frozenset({"HAN", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL"})
"""Scripts that one word may mix."""
_LOOK_ALIKE = frozenset({"ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "DESERET", "GEORGIAN", "GREEK", "LISU"})
"""Scripts with letters that look like Latin ones."""
_SAME_SHAPE = str.maketrans(
    {"0": "o", "1": "l", "i": "l", "|": "l", "5": "s", "3": "e", "4": "a", "@": "a", "$": "s"}
)


def normalize(name: str) -> str:
    """Return the form in which names are stored: Unicode NFC, without surrounding whitespace."""
    return unicodedata.normalize("NFC", name).strip()


def find_problem(name: str) -> str | None:
    """Return an error message for an invalid normalized name; None for a valid one.

    A name may contain anything that people really are called, including digits, phone numbers and amounts.
    """
    if len(name) > MAX_LENGTH or not name.isprintable() or set(name) <= _BLANK:
        return f"Enter a name of 1 to {MAX_LENGTH} printable characters."
    shape = _reduce_to_shape(name)
    is_reserved = shape in {_reduce_to_shape(reserved) for reserved in _RESERVED}
    if is_reserved or _reduce_to_shape(_PROVIDER) in shape:
        return f"“{name}” is reserved. Choose another name."
    if _mixes_scripts(name):
        return "Use the letters of one alphabet. This name mixes letters that look alike."
    return None


def imitates(name: str, product: str) -> bool:
    """Whether readers could mistake a name for the product's name, or for a name that contains it as whole words."""
    words, wanted = _list_shapes(name), _list_shapes(product)
    starts = range(len(words) - len(wanted) + 1)
    is_contained = any(words[start : start + len(wanted)] == wanted for start in starts)
    return bool(wanted) and (is_contained or _reduce_to_shape(name) == _reduce_to_shape(product))


def _list_shapes(name: str) -> list[str]:
    return [shape for word in re.split(r"[\W_]+", name) if (shape := _reduce_to_shape(word))]


def _reduce_to_shape(name: str) -> str:
    """Return the letters of a name without what readers overlook: case, accents, spaces, look-alike characters."""
    decomposed = unicodedata.normalize("NFKD", name)
    plain = "".join(_to_latin(char) for char in decomposed if not unicodedata.combining(char)).casefold()
    plain = plain.translate(_SAME_SHAPE).replace("rn", "m").replace("vv", "w")
    return re.sub(r"[\W_]+", "", plain)


def _to_latin(char: str) -> str:
    """Return the ASCII letters that a character looks like, or the character where there are none."""
    if char.isascii():
        return char
    tables = _import_tables("confusables").confusables_data
    look_alikes = [found["c"] for variant in (char, char.lower()) for found in tables.get(variant, ())]
    # Other Latin letters are named after their base letter, such as LATIN LETTER SMALL CAPITAL P.
    if named := re.fullmatch(r"LATIN .*\b([A-Z])(?: WITH .*)?", unicodedata.name(char, "")):
        look_alikes.append(named[1])
    return next((text for text in look_alikes if text.isascii() and text.isalpha()), char)


@cache
def _import_tables(name: str) -> ModuleType:
    # The tables are large files, which most processes never need.
    return import_module(f"confusable_homoglyphs.{name}")


def _mixes_scripts(name: str) -> bool:
    """Whether a name mixes scripts in a way that lets a letter pass as one of another script.

    Follows the level "moderately restrictive" of Unicode Technical Standard 39: a name may use Latin and one other
    script without look-alikes of Latin letters. Chinese, Japanese and Korean names may mix their scripts.
    """
    letters = (char for char in unicodedata.normalize("NFKC", name) if char.isalpha())
    scripts = {_import_tables("categories").alias(char) for char in letters} - {"COMMON", "INHERITED"}
    others = {"EAST ASIAN" if script in _EAST_ASIAN else script for script in scripts} - {"LATIN"}
    return len(others) > 1 or ("LATIN" in scripts and bool(others & _LOOK_ALIKE))
