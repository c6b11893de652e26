"""Polling each image once, against asking for every bot by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from daemon.registry.client import RegistryClient
from daemon.registry.poller import Poller
from demo.bench.place import BenchEnvironment
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


def measure(place: BenchEnvironment) -> Table:
    """Let a thousand bots on three images learn of new releases in both ways, in turn, from the same registry."""
    followed = [f"{place.registry}/{BOT_REPOSITORY}:poll-{version.version}" for version in _VERSIONS]
    for version in _VERSIONS:
        build_reference_bot(place.engine, place.registry, version, f"poll-{version.version}", {})
    with place.new_database() as database:
        _found(database, followed)
        poller = Poller(database, RegistryClient(), Allowlist.parse([place.registry]))
        _poll_each_image(poller, utcnow())  # the first time, manifests are read too
        once = _measured(place, lambda: _poll_each_image(poller, utcnow() + timedelta(hours=1)))
        alone = _measured(place, lambda: _ask_for_each_bot(database))
    table = Table(f"One cycle of polling, {_BOTS} bots on {len(_VERSIONS)} images", ("", "requests", "seconds"))
    table.rows.append(("each image once", str(once[0]), f"{once[1]:.2f}"))
    table.rows.append(("each bot by itself", str(alone[0]), f"{alone[1]:.2f}"))
    table.rows.append(("ratio", f"1 : {alone[0] / once[0]:.0f}", f"1 : {alone[1] / once[1]:.0f}"))
    return table


def _found(database: Database, followed: list[str]) -> None:
    with database.transaction() as session:
        owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
        node = Node(name="node", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
        session.add_all([owner, node])
        session.flush()
        org = Org(slug="org", name="Org", owner_id=owner.id)
        session.add(org)
        session.flush()
        for number in range(_BOTS):
            image = followed[number % len(followed)]
            session.add(Bot(org_id=org.id, node_id=node.id, name="Bot", subdomain=f"bot-{number}", image=image))


def _measured(place: BenchEnvironment, cycle: Callable[[], None]) -> tuple[int, float]:
    """Requests as the registry itself counts them, and seconds."""
    before, began = _requests(place), time.perf_counter()
    cycle()
    took = time.perf_counter() - began
    return _requests(place) - before, took


def _requests(place: BenchEnvironment) -> int:
    return sum('"HEAD /v2/' in line or '"GET /v2/' in line for line in place.registry_log.read_text().splitlines())


def _poll_each_image(poller: Poller, now: datetime) -> None:
    with poller.database.transaction() as session:
        due = polling.schedule_due(session, now)
    for image in due:
        poller.poll(image, now)


def _ask_for_each_bot(database: Database) -> None:
    client = RegistryClient()
    with database.reading() as session:
        bots = session.scalars(sa.select(Bot.image)).all()
    for image in bots:
        client.current_digest(parse_reference(image))
