"""Benchmark of a whole rollout with Flotilla's own processes and engines that only pretend. Used by `demo.bench`."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from demo.bench import fleet
from demo.bench.databases import BenchDatabases
from demo.bench.environment import BenchEnvironment
from demo.bench.rollout.fake_engine import BOT_PORT, health_path
from demo.bench.rollout.fake_platform import FakePlatform, Usage
from demo.bench.tables import Table
from demo.processes import DemoError, wait_until
from portal.database import Database
from portal.models import Bot, BotUpdate, Node, PolledImage, Release, Rollout, UpdateState, User, utcnow

BOTS = 1000
_START_SECONDS = 120
_SECONDS_PER_BOT = 5
"""Time limit of the rollout."""


def measure(environment: BenchEnvironment) -> Table:
    """Simulate a rollout to the usual number of bots."""
    return measure_size(environment.databases, BOTS)


def measure_size(databases: BenchDatabases, bots: int) -> Table:
    """Simulate a rollout, to at most the usual number of bots."""
    bots = min(bots, BOTS)
    results = []
    for kind in databases.kinds:
        with databases.new(kind) as database:
            results.append(simulate(database, bots))
    note = "CPU includes the children of each process. The engines and bots only pretend, and are not included."
    table = Table(f"A whole rollout of {bots} bots on {fleet.NODES} nodes", ("", *databases.kinds), note=note)
    table.rows.extend((row, *(result[row] for result in results)) for row in results[0])
    return table


def simulate(database: Database, bots: int) -> dict[str, str]:
    """Simulate one rollout, and return descriptions and results."""
    with running_platform(database, bots) as platform:
        before, started = platform.read_usage(), time.monotonic()
        rollout_id = start_rollout(database)
        wait_until(lambda: _has_ended(database, rollout_id), "the rollout did not end", bots * _SECONDS_PER_BOT + 60)
        seconds, usage = time.monotonic() - started, platform.read_usage().since(before)
    return {**_describe_outcome(database, rollout_id, seconds), **_describe_usage(usage, bots)}


@contextmanager
def running_platform(database: Database, bots: int, silent: int = 0) -> Iterator[FakePlatform]:
    """Run a platform with a fleet that is one release behind, until the end of a `with` block.

    Args:
        database: an empty, migrated database.
        bots: number of bots.
        silent: number of bots that never answer a health check.
    """
    with tempfile.TemporaryDirectory(prefix="flotilla-bench-", ignore_cleanup_errors=True) as folder:
        platform = FakePlatform(database, Path(folder))
        create_fleet(database, platform, bots)
        with platform.running_engines(fleet.NODES, bots, silent), platform.running_processes():
            wait_until(lambda: _are_all_nodes_known(database), "some nodes were not probed", _START_SECONDS)
            yield platform


def create_fleet(database: Database, platform: FakePlatform, bots: int) -> None:
    """Create a fleet that is one release behind, and whose bots are on the engines of a platform."""
    with database.transaction() as session:
        fleet.create_fleet(session, bots)
        _use_fake_engines(session, platform)


def _use_fake_engines(session: Session, platform: FakePlatform) -> None:
    for node in session.scalars(sa.select(Node)):
        node.docker_url = platform.node_url(int(node.name.removeprefix("node-")))
    # There is no registry, and no image from which a changelog could be read.
    session.execute(sa.update(PolledImage).values(next_poll_at=utcnow() + timedelta(days=1)))
    session.execute(sa.update(Release).values(changelog_read_at=utcnow()))
    for bot_id, subdomain in session.execute(sa.select(Bot.id, Bot.subdomain)).all():
        address: dict[str, Any] = {
            "port": BOT_PORT,
            "health_path": health_path(int(subdomain.removeprefix("bot-"))),
            "address": f"127.0.0.1:{platform.bots_port}",
        }
        session.execute(sa.update(Bot).where(Bot.id == bot_id).values(**address))


def _are_all_nodes_known(database: Database) -> bool:
    with database.reading() as session:
        return not session.scalars(sa.select(Node.id).where(Node.last_seen_at.is_(None))).first()


def start_rollout(database: Database) -> str:
    """Start a rollout to the whole fleet, and return its id."""
    with database.transaction() as session:
        release = session.scalars(sa.select(Release).join(PolledImage, PolledImage.release_id == Release.id)).one()
        operator = session.scalars(sa.select(User)).one()
        return fleet.start_rollout(session, release, operator).id


def _has_ended(database: Database, rollout_id: str) -> bool:
    with database.reading() as session:
        failed = sa.select(BotUpdate.error).where(BotUpdate.rollout_id == rollout_id, BotUpdate.error.is_not(None))
        if error := session.scalars(failed).first():
            raise DemoError(f"an update failed: {error}")
        rollout = session.get_one(Rollout, rollout_id)
        unfinished = sa.select(BotUpdate.id).where(BotUpdate.rollout_id == rollout_id, BotUpdate.is_unfinished())
        return rollout.state not in Rollout.OPEN and session.scalars(unfinished).first() is None


def _describe_outcome(database: Database, rollout_id: str, seconds: float) -> dict[str, str]:
    with database.reading() as session:
        ended = session.execute(
            sa.select(BotUpdate.state, Bot.node_id)
            .join(BotUpdate.bot)
            .where(BotUpdate.rollout_id == rollout_id)
            .order_by(BotUpdate.ended_at)
        ).all()
    updated = sum(state is UpdateState.UPDATED for state, _ in ended)
    shares = Counter(node_id for _, node_id in ended[: len(ended) // 2])
    return {
        "bots updated": str(updated),
        "minutes": f"{seconds / 60:.2f}",
        "updates per minute": f"{updated / seconds * 60:.0f}",
        "when half are updated: fewest of a node": str(min(shares.values()) if len(shares) == fleet.NODES else 0),
        "when half are updated: most of a node": str(max(shares.values())),
    }


def _describe_usage(usage: Usage, bots: int) -> dict[str, str]:
    return {
        "CPU ms per bot, all processes": f"{sum(usage.cpu_seconds.values()) / bots * 1000:.0f}",
        **{f"CPU ms per bot, {name}": f"{value / bots * 1000:.0f}" for name, value in usage.cpu_seconds.items()},
        **{f"statements per bot, {name}": f"{value / bots:.0f}" for name, value in usage.statements.items()},
        "engine calls per bot": f"{sum(usage.engine_calls.values()) / bots:.1f}",
        **{f"  {call}": f"{value / bots:.1f}" for call, value in usage.engine_calls.most_common()},
        "database KB per bot": f"{usage.database_bytes / bots / 1000:.1f}",
    }
