"""A node, a template and a bot that waits for its container. Used by tests of creation and removal."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from daemon.bots.create import create
from daemon.engine.labels import bot_container_name
from demo.versions import FIRST, BotVersion
from portal.database import Database
from portal.models import Bot, BotPhase, PolledImage, Release, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import creation
from portal.settings import Settings
from tests import factories
from tests.support.site import Site
from tests.support.workers import worker_number

TEMPLATE = {
    "environment": {"TOKEN": "s3cret-token"},
    "hosted_environment": {"HOSTED_MODE": "1"},
    "memory_mb": 256,
    "cpu_millis": 500,
    "pids_limit": 100,
    "capabilities": ["CHOWN"],
}

_PORTS_PER_NODE = 21
# Divided among the processes of pytest: all of them use the same network.
_PORTS = itertools.count(20_000 + 1_000 * worker_number(), _PORTS_PER_NODE)


@dataclass
class Nursery:
    """An organization whose bot is created from the template on a real engine."""

    site: Site
    bot_id: str

    @property
    def database(self) -> Database:
        """The database of the test."""
        return self.site.database

    @property
    def settings(self) -> Settings:
        """The settings of the worker."""
        return self.site.settings

    @property
    def name(self) -> str:
        """The fixed name of the bot's container."""
        return bot_container_name(self.bot_id)

    def create(self) -> Bot:
        """Run the job, and return the bot afterwards."""
        create(self.database, self.settings, self.bot_id)
        return self.site.bot()

    def make_due(self) -> None:
        """Let the wait before the next attempt end, and the lease of a dead worker expire."""
        with self.database.transaction() as session:
            session.get_one(Bot, self.bot_id).creation_due_at = utcnow()
        self.site.expire_lease()

    def inspect(self) -> dict[str, Any] | None:
        """Return the description of the bot's container, or None."""
        found = self.site.engine.containers(all=True, filters={"name": f"^/{self.name}$"})
        return self.site.engine.inspect_container(found[0]["Id"]) if found else None

    def volumes(self) -> list[str]:
        """Return the names of the volumes with the label of the bot."""
        found = self.site.engine.volumes(filters={"label": f"flotilla.bot={self.bot_id}"})["Volumes"] or []
        return sorted(volume["Name"] for volume in found)

    def point_tag_at(self, version: BotVersion) -> None:
        """Let the tag of the template point at another release, as a poll records it."""
        with self.database.transaction() as session:
            digest = self.site.images.digest(version)
            release = session.scalar(sa.select(Release).where(Release.digest == digest))
            if release is None:
                image = self.site.images.reference(version)
                values = {"repository": self.site.images.repository, "image": image, "digest": digest}
                release = factories.release(session, version.version, **values)
            session.scalars(sa.select(PolledImage)).one().release_id = release.id

    def kill_worker_at(self, number: int) -> bool:
        """Run the job in a child process that is killed before its call with this number, to the engine or database.

        Returns:
            False when the job ended before that call.
        """
        child = os.fork()
        if child == 0:
            _count_calls(lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == number else None)
            create(self.database, self.settings, self.bot_id)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)

    def remove(self) -> None:
        """Remove what the test left on the engine."""
        if found := self.inspect():
            self.site.engine.remove_container(found["Id"], force=True, v=True)
        for volume in self.volumes():
            self.site.engine.remove_volume(volume)


def _count_calls(react: Callable[[int], None]) -> None:
    """Call `react` with a growing number before each call to the engine and each transaction of the lease."""
    from daemon.bot_lease import BotLease
    from daemon.engine.client import Engine

    count = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            react(count)
            return call(*args, **options)

        return run

    Engine.send = counted(Engine.send)  # type: ignore[method-assign]
    BotLease.transaction = counted(BotLease.transaction)  # type: ignore[method-assign]


def add_nursery(site: Site, docker_url: str, folder: Path, version: BotVersion = FIRST) -> Nursery:
    """Add the node, the template with the reference bot, the organization, and the rows of its bot."""
    with site.database.transaction() as session:
        port = next(_PORTS)
        factories.node(
            session,
            docker_url=docker_url,
            snapshot_dir=str(folder / "snapshots"),
            port_first=port,
            port_last=port + _PORTS_PER_NODE - 1,
        )
        image = f"{site.images.repository}:managed"
        factories.bot_template(session, image=image, **TEMPLATE)
        org = factories.org(session, factories.user(session))
        allowlist = Allowlist.parse(site.settings.fleet_image_allowlist)
        bot = creation.create_bot(session, allowlist, org, now=utcnow())
        assert bot.phase is BotPhase.CREATING
        site.bot_id = bot.id
    nursery = Nursery(site, site.bot_id)
    nursery.point_tag_at(version)
    return nursery
