"""Benchmark of polling each image once compared with polling once per bot. Used by `demo.bench.__main__`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from daemon.registry.client import RegistryClient
from daemon.registry.poller import Poller
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table
from demo.images import BOT_REPOSITORY, build_reference_bot
from demo.versions import FIRST, SECOND, THIRD
from portal.database import Database
from portal.models import Bot, Node, Org, User, utcnow
from portal.rules.allowlist import Allowlist
from portal.rules.references import parse_reference
from portal.services.releases import polling

_BOTS = 1000
_VERSIONS = (FIRST, SECOND, THIRD)


def measure(environment: BenchEnvironment) -> Table:
    """Measure both ways of polling for a large fleet on three images, with the same registry."""
    images = [f"{environment.registry}/{BOT_REPOSITORY}:poll-{version.version}" for version in _VERSIONS]
    for version in _VERSIONS:
        build_reference_bot(environment.engine, environment.registry, version, f"poll-{version.version}", {})
    with environment.new_database() as database:
        _create_bots(database, images)
        poller = Poller(database, RegistryClient(), Allowlist.parse([environment.registry]))
        _poll_each_image(poller, utcnow())  # the first poll also reads the manifests
        per_image = _measure(environment, lambda: _poll_each_image(poller, utcnow() + timedelta(hours=1)))
        per_bot = _measure(environment, lambda: _poll_each_bot(database))
    table = Table(f"One cycle of polling, {_BOTS} bots on {len(_VERSIONS)} images", ("", "requests", "seconds"))
    table.rows.append(("once per image", str(per_image[0]), f"{per_image[1]:.2f}"))
    table.rows.append(("once per bot", str(per_bot[0]), f"{per_bot[1]:.2f}"))
    table.rows.append(("ratio", f"1 : {per_bot[0] / per_image[0]:.0f}", f"1 : {per_bot[1] / per_image[1]:.0f}"))
    return table


def _create_bots(database: Database, images: list[str]) -> None:
    with database.transaction() as session:
        owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
        node = Node(name="node", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
        session.add_all([owner, node])
        session.flush()
        org = Org(slug="org", name="Org", owner_id=owner.id)
        session.add(org)
        session.flush()
        for number in range(_BOTS):
            image = images[number % len(images)]
            session.add(Bot(org_id=org.id, node_id=node.id, name="Bot", subdomain=f"bot-{number}", image=image))


def _measure(environment: BenchEnvironment, cycle: Callable[[], None]) -> tuple[int, float]:
    """Run a cycle; return the number of requests in the registry's log and the duration in seconds."""
    requests, started = _count_requests(environment), time.perf_counter()
    cycle()
    seconds = time.perf_counter() - started
    return _count_requests(environment) - requests, seconds


def _count_requests(environment: BenchEnvironment) -> int:
    return sum(
        '"HEAD /v2/' in line or '"GET /v2/' in line for line in environment.registry_log.read_text().splitlines()
    )


def _poll_each_image(poller: Poller, now: datetime) -> None:
    with poller.database.transaction() as session:
        due = polling.schedule_due(session, now)
    for image in due:
        poller.poll(image, now)


def _poll_each_bot(database: Database) -> None:
    client = RegistryClient()
    with database.reading() as session:
        bots = session.scalars(sa.select(Bot.image)).all()
    for image in bots:
        client.get_current_digest(parse_reference(image))
