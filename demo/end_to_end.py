"""The demo's end-to-end check: a good release reaches every bot, a bad one stops at the canary. Used by `--once`.

The good release begins as a commit of the bot's upstream, the bad one as a pushed image.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import docker
import sqlalchemy as sa

from demo.config import DemoConfig
from demo.fork import DemoFork
from demo.images import build_bot_from_source, build_reference_bot
from demo.platform import flotilla
from demo.processes import DemoError
from demo.seed import TAG, bot_image, read_notes, write_note
from demo.versions import CORRUPTING
from portal.database import Database
from portal.models import Bot, BotPhase, BotUpdate, Release, Rollout, RolloutState, UpdateState, utcnow
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
        True if every bot has the expected version with intact data, customers read what upstream changed, and the
        bad release is quarantined.

    Raises:
        DemoError: an expected change did not happen in time; the message names it.
    """
    number = _count_releases(database)
    notes = _write_notes(database)
    feature = f"add theme number {number} to the notes"
    digest = _publish_from_upstream(config, settings, engine, number, feature)
    good = _roll_out(config, settings, database, digest)
    told = _print_changelog(database, digest, f"Theme number {number} for the notes")
    rows = _check_bots(database, good, notes, expected_canary=UpdateState.UPDATED)
    print("\nThe good release reaches every bot:", flush=True)
    _print(rows)
    notes = _write_notes(database)
    version = replace(CORRUPTING, version=f"2.{number + 1}.0")
    print(f"\nPushing version {version.version} ({version.behaviour}) to the registry", flush=True)
    bad = _roll_out(
        config, settings, database, build_reference_bot(engine, config.registry, version, TAG, config.labels)
    )
    bad_rows = _check_bots(database, bad, notes, expected_canary=UpdateState.ROLLED_BACK)
    print("\nThe release that destroys data and never becomes healthy stops at the canary:", flush=True)
    _print(bad_rows)
    quarantined = _is_quarantined(database, bad)
    print(f"\nThe bad release is {'quarantined' if quarantined else 'NOT quarantined'}.", flush=True)
    return told and quarantined and all(row.correct for row in [*rows, *bad_rows])


def _count_releases(database: Database) -> int:
    # The count makes version numbers unique, so each run of the check publishes releases that are new.
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Release)) or 0


def _write_notes(database: Database) -> dict[str, list[str]]:
    """Add a note to every adopted bot, and return all notes by the id of the bot.

    A bot from the template runs in hosted mode and accepts notes of its members only.
    """
    notes = {}
    for bot in _list_adopted_bots(database):
        address = _require_address(bot)
        write_note(address, f"Written at {time.strftime('%H:%M:%S')} by a user of {bot.org.name}")
        notes[bot.id] = read_notes(address)
    return notes


def _publish_from_upstream(
    config: DemoConfig, settings: Mapping[str, str], engine: docker.APIClient, number: int, feature: str
) -> str:
    """Commit upstream, sync the fork, merge, build and push the image. Return its digest."""
    fork = DemoFork(config.folder / "fork")
    print(f"\nUpstream commits: feat: {feature}", flush=True)
    fork.change_upstream(f"2.{number}.0", f"feat: {feature} (#{number})")
    synced = json.loads(
        flotilla(settings, "upstream", "sync", "--push", "--json", "--repo", str(fork.checkout), codes=(0, 1))
    )
    print(f"  the fork is {synced['outcome']}; findings of the scan: {len(synced['scan']['new'])} new", flush=True)
    fork.merge()
    print("  a person merges the pull request; the image is built and pushed", flush=True)
    return build_bot_from_source(engine, config.registry, fork.archive(), TAG, config.labels)


def _print_changelog(database: Database, digest: str, expected: str) -> bool:
    """Print what customers read about a release, and return whether it is only what is expected."""
    with database.reading() as session:
        changelog = session.scalars(sa.select(Release).where(Release.digest == digest)).one().changelog or {}
    sections = changelog.get("sections", [])
    for section in sections:
        print(f"  customers read: {section['title']}: {', '.join(section['items'])}", flush=True)
    return bool(sections == [{"title": "New", "items": [expected]}])


def _roll_out(config: DemoConfig, settings: Mapping[str, str], database: Database, digest: str) -> str:
    """Wait until a pushed release is detected, roll it out to all bots, and return the id of the ended rollout."""
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
            words = progress.summarize(session, rollout, utcnow(), None).words
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
            expected_notes = notes.get(update.bot_id)
            intact = expected_notes is None or read_notes(_require_address(update.bot)) == expected_notes
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


def _list_adopted_bots(database: Database) -> list[Bot]:
    with database.reading() as session:
        loading = sa.orm.joinedload(Bot.org)
        adopted = sa.select(Bot).where(Bot.host_port.is_(None), Bot.phase == BotPhase.ACTIVE)
        return list(session.scalars(adopted.options(loading).order_by(Bot.name)))


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
