"""The result of every bot in a rollout, compared with what is expected, as a table. Used by the end-to-end check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from demo.processes import DemoError
from demo.seed import read_notes
from portal.database import Database
from portal.models import Bot, BotUpdate, Release, Rollout, RolloutState, UpdateState


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
    database: Database, rollout_id: str, notes: Mapping[str, list[str]], *, expected_canary: UpdateState
) -> list[Row]:
    """Compare every bot of an ended rollout with what is expected.

    Args:
        database: the demo's database.
        rollout_id: the rollout.
        notes: all notes before the rollout, by the id of the bot.
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
            expected_notes = notes.get(update.bot_id)
            intact = expected_notes is None or read_notes(require_address(update.bot)) == expected_notes
            at_release = update.bot.current_digest in rollout.release.digests
            expected = expected_canary if update.wave == 1 else expected_others
            rows.append(
                Row(
                    bot=update.bot.name,
                    before=versions.get(update.previous_digest or update.bot.current_digest or "", "?"),
                    after=versions.get(update.bot.current_digest or "", "?"),
                    outcome=update.state.replace("_", " "),
                    downtime=_format_downtime(update),
                    data="not read" if expected_notes is None else "intact" if intact else "DAMAGED",
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


def require_address(bot: Bot) -> str:
    """Return host and port of a bot.

    Raises:
        DemoError: the bot has none.
    """
    if bot.address is None:
        raise DemoError(f"the bot {bot.name} has no address; is its container running?")
    return bot.address
