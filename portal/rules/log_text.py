"""Lines of the log of a bot as a page and a text file show them. Used by the log pages.

A line is a list of its moment in ISO 8601 or None, whether it was written to the error output, and its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_LINES = 300
MAX_CHARACTERS = 50_000
"""Limits of a page. A bot may write lines of any length."""
_MAX_LINE = 2000

Line = Sequence[Any]


@dataclass(frozen=True)
class LogExtract:
    """The lines of a log that a page shows.

    Attributes:
        lines: the latest lines that match, oldest first.
        matches: how many lines match.
    """

    lines: list[Line]
    matches: int


def select(lines: Sequence[Line], text: str) -> LogExtract:
    """Select the latest lines that contain a text, ignoring case, within the limits of a page."""
    wanted = text.casefold()
    matching = [line for line in lines if wanted in str(line[2]).casefold()]
    kept: list[Line] = []
    size = 0
    for at, is_error, content in reversed(matching[-MAX_LINES:]):
        shown = content if len(content) <= _MAX_LINE else f"{content[: _MAX_LINE - 1]}…"
        size += len(shown)
        if size > MAX_CHARACTERS:
            break
        kept.append((at, is_error, shown))
    return LogExtract(kept[::-1], len(matching))


def format_lines(lines: Iterable[Line]) -> str:
    """Format a log as a text file, with the moment of each line in UTC where it is known."""
    return "".join(f"{_short(at)} {text}\n" if at else f"{text}\n" for at, _is_error, text in lines)


def _short(moment: str) -> str:
    """Return a moment in ISO 8601 to the millisecond. Engines add nanoseconds."""
    date, _, fraction = moment.partition(".")
    return f"{date}.{fraction[:3]}Z" if fraction else moment
