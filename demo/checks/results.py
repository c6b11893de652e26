"""The result of every bot in a rollout, compared with what is expected, as a table. Used by the end-to-end check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from demo.checks.visitors import Visitor
from portal.database import Database
from portal.models import BotUpdate, Release, Rollout, RolloutState, UpdateState


@dataclass(frozen=True)
class Row:
    """The result of one bot in one rollout, as shown in the table."""

    bot: str
    before: str
    after: str
    outcome: str
    downtime: str
    data: str
    correct: bool


def check_bots(
    database: Database,
    rollout_id: str,
    notes: Mapping[str, list[str]],
    visitors: Mapping[str, Visitor],
    *,
    expected_canary: UpdateState,
) -> list[Row]:
    """Compare every bot of an ended rollout with what is expected.

    Args:
        database: the demo's database.
        rollout_id: the rollout.
        notes: all notes that the bots must have, by the id of the bot.
        visitors: the people who read the notes, by the id of the bot.
        expected_canary: state of the canary's update; it also determines what is expected of the other bots.
    """
    with database.reading() as session:
        updates = session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout_id)).all()
        rollout = session.get_one(Rollout, rollout_id)
        good = expected_canary is UpdateState.UPDATED
        versions = {
            digest: release.version for release in session.scalars(sa.select(Release)) for digest in release.digests
        }
        expected_rollout = RolloutState.COMPLETED if good else RolloutState.ABORTED
        expected_others = UpdateState.UPDATED if good else UpdateState.SKIPPED
        rows = []
        for update in sorted(updates, key=lambda update: (update.wave or 99, update.bot.name)):
            intact = visitors[update.bot_id].read_notes() == notes[update.bot_id]
            at_release = update.bot.current_digest in rollout.release.digests
            expected = expected_canary if update.wave == 1 else expected_others
            rows.append(
                Row(
                    bot=update.bot.name,
                    before=versions.get(update.previous_digest or update.bot.current_digest or "", "?"),
                    after=versions.get(update.bot.current_digest or "", "?"),
                    outcome=update.state.replace("_", " "),
                    downtime=_format_downtime(update),
                    data="intact" if intact else "DAMAGED",
                    correct=intact
                    and at_release == good
                    and update.state is expected
                    and rollout.state is expected_rollout,
                )
            )
        return rows


def _format_downtime(update: BotUpdate) -> str:
    if update.stopped_at is None or update.answering_at is None:
        return "none"
    return f"{(update.answering_at - update.stopped_at).total_seconds():.1f} s"


def print_rows(rows: list[Row]) -> None:
    """Print the results as a table."""
    table = [("bot", "from", "to", "outcome", "downtime", "data", "")]
    table += [
        (row.bot, row.before, row.after, row.outcome, row.downtime, row.data, "ok" if row.correct else "WRONG")
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), flush=True)
