"""The demo's end-to-end check: a good release reaches every bot, a bad one stops at the canary. Used by `--once`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import docker
import sqlalchemy as sa

from demo.config import DemoConfig
from demo.images import build_reference_bot
from demo.platform import flotilla
from demo.processes import DemoError
from demo.seed import TAG, bot_image, read_notes, write_note
from demo.versions import CORRUPTING, SECOND, BotVersion
from portal.database import Database
from portal.models import Bot, BotUpdate, Release, Rollout, RolloutState, UpdateState, utcnow
from portal.services.rollouts import progress

_SECONDS_TO_DETECT = 90
_SECONDS_TO_ROLL_OUT = 600


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


def run_end_to_end_check(
    config: DemoConfig, settings: Mapping[str, str], engine: docker.APIClient, database: Database
) -> bool:
    """Roll out a good and a bad release, and print the result of each bot.

    Returns:
        True if every bot has the expected version with intact data, and the bad release is quarantined.

    Raises:
        DemoError: an expected change did not happen in time; the message names it.
    """
    number = _count_releases(database)
    notes = _write_notes(database)
    good = _roll_out(config, settings, engine, database, replace(SECOND, version=f"2.{number}.0"))
    rows = _check_bots(database, good, notes, expected_canary=UpdateState.UPDATED)
    print("\nThe good release reaches every bot:", flush=True)
    _print(rows)
    notes = _write_notes(database)
    bad = _roll_out(config, settings, engine, database, replace(CORRUPTING, version=f"2.{number + 1}.0"))
    bad_rows = _check_bots(database, bad, notes, expected_canary=UpdateState.ROLLED_BACK)
    print("\nThe release that destroys data and never becomes healthy stops at the canary:", flush=True)
    _print(bad_rows)
    quarantined = _is_quarantined(database, bad)
    print(f"\nThe bad release is {'quarantined' if quarantined else 'NOT quarantined'}.", flush=True)
    return quarantined and all(row.correct for row in [*rows, *bad_rows])


def _count_releases(database: Database) -> int:
    # The count makes version numbers unique, so each run of the check publishes releases that are new.
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Release)) or 0


def _write_notes(database: Database) -> dict[str, list[str]]:
    """Add a note to every bot, and return all notes by the id of the bot."""
    notes = {}
    for bot in _list_bots(database):
        address = _require_address(bot)
        write_note(address, f"Written at {time.strftime('%H:%M:%S')} by a user of {bot.org.name}")
        notes[bot.id] = read_notes(address)
    return notes


def _roll_out(
    config: DemoConfig, settings: Mapping[str, str], engine: docker.APIClient, database: Database, version: BotVersion
) -> str:
    """Push a release, roll it out to all bots, print the progress, and return the id of the ended rollout."""
    print(f"\nPushing version {version.version} ({version.behaviour}) to the registry", flush=True)
    digest = build_reference_bot(engine, config.registry, version, TAG, config.labels)
    print("  waiting until the poller detects it", flush=True)
    _wait_until(lambda: _is_detected(database, digest), "the poller did not detect the release", _SECONDS_TO_DETECT)
    options = ("--all", "--now", "--pause-seconds", "3", "--json")
    output = flotilla(settings, "rollouts", "start", bot_image(config), *options)
    rollout_id: str = json.loads(output)["id"]
    print(f"  {config.base_url}/admin/rollouts/{rollout_id}", flush=True)
    printed = ""

    def has_ended() -> bool:
        nonlocal printed
        with database.reading() as session:
            rollout = session.get_one(Rollout, rollout_id)
            words = progress.summarize(session, rollout, utcnow()).words
            ended = rollout.state not in Rollout.OPEN
        if words != printed:
            printed = words
            print(f"  {words}", flush=True)
        return ended

    _wait_until(
        has_ended, f"the rollout {rollout_id} (logs: {config.folder / 'logs'}) did not end", _SECONDS_TO_ROLL_OUT
    )
    return rollout_id


def _is_detected(database: Database, digest: str) -> bool:
    with database.reading() as session:
        release = session.scalar(sa.select(Release).where(Release.digest == digest))
        return release is not None and release.changelog_read_at is not None


def _check_bots(
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
            intact = read_notes(_require_address(update.bot)) == notes[update.bot_id]
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


def _is_quarantined(database: Database, rollout_id: str) -> bool:
    with database.reading() as session:
        return session.get_one(Rollout, rollout_id).release.quarantined_at is not None


def _print(rows: list[Row]) -> None:
    table = [("bot", "from", "to", "outcome", "downtime", "data", "")]
    table += [
        (row.bot, row.before, row.after, row.outcome, row.downtime, row.data, "ok" if row.correct else "WRONG")
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def _list_bots(database: Database) -> list[Bot]:
    with database.reading() as session:
        loading = sa.orm.joinedload(Bot.org)
        return list(session.scalars(sa.select(Bot).options(loading).order_by(Bot.name)))


def _require_address(bot: Bot) -> str:
    if bot.address is None:
        raise DemoError(f"the bot {bot.name} has no address; is its container running?")
    return bot.address


def _wait_until(is_done: Callable[[], bool], failure: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise DemoError(f"{failure} within {seconds:.0f} seconds")
        time.sleep(0.5)
