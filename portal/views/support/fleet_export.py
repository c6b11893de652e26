"""The list of bots as a CSV file. Used by the fleet page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from flask import Response

from portal.services.bots.bot_list import BotRow

_HEAD = (
    *("id", "bot", "subdomain", "organization", "node", "state", "image", "digest", "version", "available"),
    *("channel", "labels", "held_until", "last_update", "last_update_at"),
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def build_csv(rows: Sequence[BotRow], labels: Mapping[str, Sequence[str]]) -> Response:
    """Build the file, with one line per bot and moments in ISO 8601. `labels` are those of each bot, by its id."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEAD)
    writer.writerows(_protect(_list_cells(row, labels.get(row.bot.id, []))) for row in rows)
    headers = {"Content-Disposition": 'attachment; filename="bots.csv"'}
    return Response(text.getvalue(), mimetype="text/csv", headers=headers)


def _list_cells(row: BotRow, labels: Sequence[str]) -> Iterable[object]:
    bot, update = row.bot, row.update
    ended = update and (update.ended_at or update.started_at or update.created_at)
    return (
        *(bot.id, bot.name, bot.subdomain, bot.org.slug, bot.node.name),
        *("needs attention" if bot.needs_attention else bot.state, bot.image, bot.current_digest or ""),
        *(row.runs.version if row.runs else "", row.available.version if row.available else ""),
        *(bot.release_channel, " ".join(labels), bot.held_until.isoformat() if bot.held_until else ""),
        *(update.state if update else "", ended.isoformat() if ended else ""),
    )


def _protect(cells: Iterable[object]) -> list[str]:
    """Put a quote before texts that a spreadsheet would run as a formula."""
    texts = (str(cell) for cell in cells)
    return [f"'{text}" if text.startswith(_FORMULA_STARTS) else text for text in texts]
