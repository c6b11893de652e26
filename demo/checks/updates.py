"""The demo's check of updates: a good release reaches every bot, a bad one stops at the canary. Used by `--once`.

The good release begins as a commit of the bot's upstream, the bad one as a pushed image. Owners use their bots
through the gateway while the good release is rolled out, and none of their requests may fail.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

import docker
import sqlalchemy as sa

from demo.checks.alerts import check_alerts, receiving_alerts
from demo.checks.results import check_bots, print_rows
from demo.checks.traffic import running_traffic
from demo.checks.visitors import PortalVisitor, Visitor, require_status
from demo.config import DemoConfig
from demo.fork import DemoFork
from demo.images import build_bot_from_source, build_reference_bot
from demo.platform import flotilla
from demo.processes import DemoError, wait_until
from demo.seed import TAG, bot_image
from demo.versions import CORRUPTING
from portal.database import Database
from portal.models import Bot, BotPhase, Org, Release, Rollout, UpdateState, utcnow
from portal.services.rollouts import progress

_SECONDS_TO_DETECT = 90
_SECONDS_TO_ROLL_OUT = 600


def check_updates(
    config: DemoConfig, settings: Mapping[str, str], engine: docker.APIClient, database: Database
) -> bool:
    """Roll out a good and a bad release, and print the result of each bot.

    Returns:
        True if every bot has the expected version with intact data, customers read what upstream changed, no request
        failed during the good update, and the bad release is quarantined and told by signed alerts.

    Raises:
        DemoError: an expected change did not happen in time; the message names it.
    """
    number = _count_releases(database)
    visitors = _open_bots(config, database)
    notes = _write_notes(visitors)
    feature = f"add theme number {number} to the notes"
    digest = _publish_from_upstream(config, settings, engine, number, feature)
    with running_traffic(visitors) as traffic:
        good = _roll_out(config, settings, database, digest)
    print(f"  during the rollout: {traffic.describe()}", flush=True)
    expected = {bot_id: [*texts, *traffic.notes[bot_id]] for bot_id, texts in notes.items()}
    told = _print_changelog(database, digest, f"Theme number {number} for the notes")
    rows = check_bots(database, good, expected, visitors, expected_canary=UpdateState.UPDATED)
    print("\nThe good release reaches every bot:", flush=True)
    print_rows(rows)
    notes = _write_notes(visitors)
    version = replace(CORRUPTING, version=f"2.{number + 1}.0")
    print(f"\nPushing version {version.version} ({version.behaviour}) to the registry", flush=True)
    with receiving_alerts(settings) as receiver:
        bad = _roll_out(
            config, settings, database, build_reference_bot(engine, config.registry, version, TAG, config.labels)
        )
        signed = check_alerts(receiver)
    bad_rows = check_bots(database, bad, notes, visitors, expected_canary=UpdateState.ROLLED_BACK)
    print("\nThe release that destroys data and never becomes healthy stops at the canary:", flush=True)
    print_rows(bad_rows)
    quarantined = _is_quarantined(database, bad)
    print(f"\nThe bad release is {'quarantined' if quarantined else 'NOT quarantined'}.", flush=True)
    correct = all(row.correct for row in [*rows, *bad_rows])
    return told and signed and quarantined and correct and not traffic.failures


def _count_releases(database: Database) -> int:
    # The count makes version numbers unique, so each run of the check publishes releases that are new.
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Release)) or 0


def _open_bots(config: DemoConfig, database: Database) -> dict[str, Visitor]:
    """Let the owner of every bot sign in to the portal and open the bot. Return them by the id of the bot."""
    print("\nOwners sign in to the portal and open their bots through the gateway:", flush=True)
    visitors = {}
    for bot in _list_bots(database):
        owner = PortalVisitor(config.base_url, bot.org.owner.email, config.operator_password)
        visitor = visitors[bot.id] = owner.open_bot(bot.org.slug, bot.subdomain)
        greeting = visitor.read_greeting()
        print(f"  {visitor.url} says: {greeting}", flush=True)
        if bot.org.owner.name not in greeting:
            raise DemoError(f"the bot {bot.name} does not know the name of its visitor")
    return visitors


def _write_notes(visitors: Mapping[str, Visitor]) -> dict[str, list[str]]:
    """Add a note to every bot, and return all notes by the id of the bot."""
    for visitor in visitors.values():
        written = visitor.add_note(f"Written at {time.strftime('%H:%M:%S')}")
        require_status(written, HTTPStatus.SEE_OTHER, f"{visitor.url} accepts no note")
    return {bot_id: visitor.read_notes() for bot_id, visitor in visitors.items()}


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
    wait_until(lambda: _is_detected(database, digest), "the poller did not detect the release", _SECONDS_TO_DETECT)
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

    wait_until(
        has_ended, f"the rollout {rollout_id} (logs: {config.folder / 'logs'}) did not end", _SECONDS_TO_ROLL_OUT
    )
    return rollout_id


def _is_detected(database: Database, digest: str) -> bool:
    with database.reading() as session:
        release = session.scalar(sa.select(Release).where(Release.digest == digest))
        return release is not None and release.changelog_read_at is not None


def _is_quarantined(database: Database, rollout_id: str) -> bool:
    with database.reading() as session:
        return session.get_one(Rollout, rollout_id).release.quarantined_at is not None


def _list_bots(database: Database) -> list[Bot]:
    with database.reading() as session:
        loading = sa.orm.joinedload(Bot.org).joinedload(Org.owner)
        active = sa.select(Bot).where(Bot.phase == BotPhase.ACTIVE)
        return list(session.scalars(active.options(loading).order_by(Bot.name)))
