"""The demo that judges itself: one good release for everybody, then a bad one that must hurt nobody."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import docker
import sqlalchemy as sa

from demo.home import Home
from demo.images import build_reference_bot
from demo.platform import flotilla
from demo.processes import MissingRequirement
from demo.seed import TAG, bot_image, read_notes, write_note
from demo.versions import CORRUPTING, SECOND, BotVersion
from portal.database import Database
from portal.models import Bot, BotUpdate, Release, Rollout, RolloutState, UpdateState
from portal.services.rollouts import progress


@dataclass(frozen=True)
class Row:
    """What became of one bot in one rollout, and whether that is right."""

    bot: str
    before: str
    after: str
    outcome: str
    downtime: str
    data: str
    right: bool


def run_proof(home: Home, settings: Mapping[str, str], engine: docker.APIClient, database: Database) -> bool:
    """Roll out a good release and a bad one, print what became of each bot, and say whether all is as it must be.

    Raises:
        MachineError: something did not happen in time; the message says what.
    """
    number = _releases(database)
    notes = _write_notes(database)
    good = _roll_out(home, settings, engine, database, replace(SECOND, version=f"2.{number}.0"))
    rows = _judge(database, good, notes, expected_canary=UpdateState.UPDATED)
    print("\nA good release reaches every bot:", flush=True)
    _print(rows)
    notes = _write_notes(database)
    bad = _roll_out(home, settings, engine, database, replace(CORRUPTING, version=f"2.{number + 1}.0"))
    bad_rows = _judge(database, bad, notes, expected_canary=UpdateState.ROLLED_BACK)
    print("\nA release that destroys data and does not become healthy stops at the canary:", flush=True)
    _print(bad_rows)
    return all(row.right for row in [*rows, *bad_rows]) and _quarantined(database, bad)


def _releases(database: Database) -> int:
    # Numbers that were never used make releases that were never seen, also when the demo proves itself again.
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Release)) or 0


def _write_notes(database: Database) -> dict[str, list[str]]:
    notes = {}
    for bot in _bots(database):
        address = _address(bot)
        write_note(address, f"Written at {time.strftime('%H:%M:%S')} by somebody at {bot.org.name}")
        notes[bot.id] = read_notes(address)
    return notes


def _roll_out(
    home: Home, settings: Mapping[str, str], engine: docker.APIClient, database: Database, version: BotVersion
) -> str:
    print(f"\nPushing version {version.version} ({version.behaviour}) to the registry", flush=True)
    digest = build_reference_bot(engine, home.registry, version, TAG, home.labels)
    _wait("the poller to notice it", lambda: _noticed(database, digest), 90)
    how = ("--all", "--now", "--pause-seconds", "3", "--json")
    output = flotilla(settings, "rollouts", "start", bot_image(home), *how)
    rollout_id: str = json.loads(output)["id"]
    print(f"  {home.base_url}/admin/rollouts/{rollout_id}", flush=True)
    words = ""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        with database.reading() as session:
            rollout = session.get_one(Rollout, rollout_id)
            now_words = progress.summarize(session, rollout).words
            ended = rollout.state not in Rollout.OPEN
        if now_words != words:
            words = now_words
            print(f"  {words}", flush=True)
        if ended:
            return rollout_id
        time.sleep(0.5)
    raise MissingRequirement(f"the rollout {rollout_id} did not end within ten minutes; see {home.folder / 'logs'}")


def _noticed(database: Database, digest: str) -> bool:
    with database.reading() as session:
        release = session.scalar(sa.select(Release).where(Release.digest == digest))
        return release is not None and release.changelog_read_at is not None


def _judge(
    database: Database, rollout_id: str, notes: Mapping[str, list[str]], *, expected_canary: UpdateState
) -> list[Row]:
    with database.reading() as session:
        updates = session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout_id)).all()
        rollout = session.get_one(Rollout, rollout_id)
        good = expected_canary is UpdateState.UPDATED
        names = {
            digest: release.version for release in session.scalars(sa.select(Release)) for digest in release.digests
        }
        expected_state = RolloutState.COMPLETED if good else RolloutState.ABORTED
        others = UpdateState.UPDATED if good else UpdateState.SKIPPED
        rows = []
        for update in sorted(updates, key=lambda update: (update.wave or 99, update.bot.name)):
            intact = read_notes(_address(update.bot)) == notes[update.bot_id]
            at_release = update.bot.current_digest in rollout.release.digests
            expected = expected_canary if update.wave == 1 else others
            right = intact and at_release == good and update.state is expected and rollout.state is expected_state
            rows.append(
                Row(
                    bot=update.bot.name,
                    before=names.get(update.previous_digest or update.bot.current_digest or "", "?"),
                    after=names.get(update.bot.current_digest or "", "?"),
                    outcome=update.state.replace("_", " "),
                    downtime=_downtime(update),
                    data="intact" if intact else "DAMAGED",
                    right=right,
                )
            )
        return rows


def _downtime(update: BotUpdate) -> str:
    if update.stopped_at is None or update.answering_at is None:
        return "none"
    return f"{(update.answering_at - update.stopped_at).total_seconds():.1f} s"


def _quarantined(database: Database, rollout_id: str) -> bool:
    with database.reading() as session:
        quarantined = session.get_one(Rollout, rollout_id).release.quarantined_at is not None
    print(f"\nThe bad release is {'quarantined' if quarantined else 'NOT quarantined'}.", flush=True)
    return quarantined


def _print(rows: list[Row]) -> None:
    table = [("bot", "from", "to", "outcome", "downtime", "data", "")]
    table += [
        (row.bot, row.before, row.after, row.outcome, row.downtime, row.data, "ok" if row.right else "WRONG")
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


def _bots(database: Database) -> list[Bot]:
    with database.reading() as session:
        loading = sa.orm.joinedload(Bot.org)
        return list(session.scalars(sa.select(Bot).options(loading).order_by(Bot.name)))


def _address(bot: Bot) -> str:
    if bot.address is None:
        raise MissingRequirement(f"the bot {bot.name} has no address; is its container running?")
    return bot.address


def _wait(what: str, happened: Callable[[], bool], seconds: float) -> None:
    print(f"  waiting for {what}", flush=True)
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise MissingRequirement(f"waited {seconds:.0f} seconds in vain for {what}")
        time.sleep(0.5)
