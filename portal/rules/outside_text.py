"""Cleaning of text from outside: logs, answers of bots, registries, engines and mail servers, names of browsers.

Used by the column types for such text, by log lines and by commands that print it.
"""

from __future__ import annotations

import re

_ESCAPE_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""Colours and cursor movements of terminals, which would leave unreadable remains."""
_LINE_BREAKS = re.compile(r"\r\n?|[\x85\u2028\u2029]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_NOT_ON_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters except tab and line feed, lone surrogates, and characters that override the direction of text.

PostgreSQL cannot store NUL, UTF-8 cannot encode a lone surrogate, terminals obey control characters, and directional
overrides show text in another order than it has.
"""


def clean_text(text: object, limit: int) -> str:
    """Return text without unsafe characters, cut to a length. Line feeds and tabs stay.

    Args:
        text: any text; other values are converted to text.
        limit: maximum length in characters. A text that is longer ends with an ellipsis.
    """
    raw = str(text)
    # Cut first, so that a giant text costs no more than a long one.
    kept = raw if len(raw) <= limit else raw[: limit - 1] + "…"
    return _UNSAFE.sub("", _LINE_BREAKS.sub("\n", _ESCAPE_SEQUENCES.sub("", kept)))


def clean_line(text: object, limit: int) -> str:
    """Return text without unsafe characters as one line, cut to a length; see `clean_text`."""
    return " ".join(clean_text(text, limit).split())


def contains_unstorable(text: str) -> bool:
    """Return whether text contains NUL, which PostgreSQL cannot store, or a lone surrogate, which is not UTF-8."""
    return _UNSTORABLE.search(text) is not None


def escape_unsafe(text: str) -> str:
    r"""Return text as one line in which line breaks and unsafe characters are visible, as `\n` or `\x1b`."""
    return _NOT_ON_ONE_LINE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
