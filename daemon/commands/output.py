"""Output of commands: lines, aligned tables and JSON. Used by all commands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

from portal.rules.outside_text import clean_text

_MAX_CHARACTERS = 100_000


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print text, without control characters that came from outside and that the terminal would obey."""
    click.echo(clean_text(text, _MAX_CHARACTERS), err=to_stderr)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table with aligned columns."""
    cells = [list(headers), *([_format_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for row in cells:
        print_text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(data: Any) -> None:
    """Print data as JSON; moments are in ISO 8601."""
    click.echo(json.dumps(data, default=str, indent=2))


def shorten_digest(value: str | None) -> str:
    """Return the first twelve digits of a digest, or a dash for None."""
    return (value or "-").removeprefix("sha256:")[:12]


def _format_cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value).replace("\n", " ")
