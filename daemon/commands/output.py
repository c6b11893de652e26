"""How commands print: aligned tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in aligned columns; with no rows only the headers."""
    cells = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def as_json(data: Any) -> None:
    """Print data for a program; moments as ISO 8601."""
    click.echo(json.dumps(data, default=str, indent=2))


def digest(value: str | None) -> str:
    """A digest short enough for a table."""
    return (value or "-").removeprefix("sha256:")[:12]


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value).replace("\n", " ")
