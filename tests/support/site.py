"""A real container of the reference bot with data, and its rows. Used by tests of updates and bot jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import docker
import requests
import sqlalchemy as sa

from daemon.engine.labels import INSTALL_LABEL, update_id_of
from demo.versions import FIRST, SECOND, BotVersion
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    FleetSettings,
    Node,
    Org,
    Release,
    RolloutState,
    Snapshot,
    SnapshotState,
    UpdateState,
    new_id,
)
from portal.models.base import utcnow
from portal.rules.strategies import StrategyName
from portal.settings import Settings
from tests import factories
from tests.support import volumes
from tests.support.images import ReferenceImages
from tests.support.volumes import Entry

NOTE = "a customer's note"


@dataclass
class Site:
    """One node with one bot, and access to both without the code under test."""

    engine: docker.APIClient
    database: Database
    settings: Settings
    images: ReferenceImages
    labels: Mapping[str, str]
    ARCHIVED: ClassVar = b"archived data"

    bot_id: str = ""
    container: str = ""
    volume: str = ""

    @property
    def name(self) -> str:
        """Name of the bot's container."""
        return f"bot-{self.volume}"

    def add_bot(
        self,
        version: BotVersion = FIRST,
        docker_url: str = "",
        folder: Path | None = None,
        *,
        host_port: int | None = None,
    ) -> None:
        """Start a bot with a named and an anonymous volume, and write its rows."""
        self.volume = new_id()
        self.engine.create_volume(self.volume, labels=dict(self.labels))
        self.container = str(
            self.engine.create_container(
                self.images.reference(version),
                name=self.name,
                environment={"COLOUR": "blue"},
                ports=[3100],
                host_config=self.engine.create_host_config(
                    binds={self.volume: {"bind": "/data", "mode": "rw"}},
                    port_bindings={3100: ("127.0.0.1", host_port)},
                    restart_policy={"Name": "unless-stopped"},
                ),
            )["Id"]
        )
        self.engine.start(self.container)
        self._write_rows(version, docker_url, folder or Path("/nowhere"))

    def _write_rows(self, version: BotVersion, docker_url: str, folder: Path) -> None:
        with self.database.transaction() as session:
            owner = factories.user(session, self.volume)
            org = factories.add(session, Org(slug=self.volume, name="Acme", owner_id=owner.id))
            node = factories.node(session, self.volume, docker_url=docker_url, snapshot_dir=str(folder / "snapshots"))
            bot = factories.bot(
                session,
                org,
                node,
                name="Paperclip",
                subdomain=self.volume,
                image=f"{self.images.repository}:managed",
                state=BotState.UNKNOWN,
                container_id=self.container,
                container_name=self.name,
                current_digest=self.images.digest(version),
            )
            self.bot_id = bot.id

    def update_to(self, version: BotVersion, **release: Any) -> str:
        """Add a running rollout of this release with an update of the bot, and return the id of the update."""
        with self.database.transaction() as session:
            known = sa.select(Release).where(Release.digest == self.images.digest(version))
            row = session.scalars(known).first() or factories.release(
                session,
                repository=self.images.repository,
                image=f"{self.images.repository}:managed",
                digest=self.images.digest(version),
                changelog=version.changelog(),
                **release,
            )
            rollout = factories.rollout(
                session,
                row,
                strategy=StrategyName.SINGLE_BOT,
                state=RolloutState.RUNNING,
                audience=Audience.NAMED,
            )
            return factories.update(session, rollout, session.get_one(Bot, self.bot_id), wave=1).id

    def leave_archive(self) -> Path:
        """Leave the archive of an update whose rollback failed, and return its path."""
        update_id = self.update_to(SECOND)
        with self.database.transaction() as session:
            session.get_one(BotUpdate, update_id).state = UpdateState.NEEDS_ATTENTION
            node = session.get_one(Bot, self.bot_id).node
            archive = Path(node.snapshot_dir) / f"{update_id}-1.tar"
            archive.parent.mkdir(parents=True, exist_ok=True)
            archive.write_bytes(self.ARCHIVED)
            row = Snapshot(update_id=update_id, node_id=node.id, volume=self.volume, archive=str(archive))
            row.state = SnapshotState.VERIFIED
            session.add(row)
        return archive

    def update(self, update_id: str) -> BotUpdate:
        """Return the current row of an update."""
        with self.database.reading() as session:
            return session.get_one(BotUpdate, update_id)

    def bot(self) -> Bot:
        """Return the current row of the bot."""
        with self.database.reading() as session:
            return session.get_one(Bot, self.bot_id)

    def expire_lease(self) -> None:
        """Let the lease of a dead worker expire."""
        with self.database.transaction() as session:
            session.execute(
                sa.update(Bot).where(Bot.id == self.bot_id).values(lease_until=utcnow().replace(year=2000))
            )

    def inspect(self) -> dict[str, Any]:
        """Return the description of the container that has the bot's name."""
        found: dict[str, Any] = self.engine.inspect_container(self.name)
        return found

    def address(self) -> str:
        """Return the URL of the bot on this machine."""
        port = self.inspect()["NetworkSettings"]["Ports"]["3100/tcp"][0]["HostPort"]
        return f"http://127.0.0.1:{port}"

    def notes(self) -> list[str]:
        """Return the notes that the bot has stored."""
        response = requests.get(f"{self.address()}/notes", timeout=10)
        response.raise_for_status()  # a bot that migrates answers with 503
        found: list[str] = response.json()["notes"]
        return found

    def add_note(self, text: str = NOTE) -> None:
        """Store a note in the bot."""
        requests.post(f"{self.address()}/notes", data={"text": text}, timeout=10).raise_for_status()

    def volumes(self) -> list[str]:
        """Return the names of the bot's volumes: the named one, then the anonymous one."""
        mounts = {mount["Destination"]: mount["Name"] for mount in self.inspect()["Mounts"]}
        return [mounts["/data"], mounts["/paperclip"]]

    def roots(self) -> list[Path]:
        """Return the folders of the bot's volumes on this machine."""
        return [volumes.root_of(self.engine, volume) for volume in self.volumes()]

    def contents(self) -> list[dict[str, Entry]]:
        """Return all entries of the bot's volumes."""
        return [volumes.walk(root) for root in self.roots()]

    def leftovers(self) -> list[str]:
        """Return the names of containers, archives and tags that updates created and did not remove."""
        names = [name.lstrip("/") for found in self.engine.containers(all=True) for name in found["Names"]]
        with self.database.reading() as session:
            folder = Path(session.scalars(sa.select(Node.snapshot_dir).where(Node.name == self.volume)).one())
        archives = [path.name for path in folder.iterdir()] if folder.exists() else []
        tags = [tag for image in self.engine.images("flotilla/keep") for tag in image["RepoTags"] or []]
        return [
            *(name for name in names if update_id_of(name)),
            *archives,
            *(tag for tag in tags if tag.endswith(self.bot_id)),
        ]

    def with_settings(self, **changes: Any) -> Settings:
        """Return the settings with changes."""
        return replace(self.settings, **changes)

    def remove(self) -> None:
        """Remove the bot, its volumes, and everything that updates left on the engine."""
        with self.database.reading() as session:
            install = session.scalars(sa.select(FleetSettings.install_id)).first()
        label = f"{INSTALL_LABEL}={install}"
        ids = {found["Id"] for found in self.engine.containers(all=True, filters={"label": label})}
        for container in ids | ({self.container} - {""}):
            try:
                mounts = self.engine.inspect_container(container)["Mounts"]
                self.engine.remove_container(container, force=True, v=True)
                for mount in mounts:
                    self.engine.remove_volume(mount["Name"])
            except docker.errors.APIError as error:
                if error.status_code not in {404, 409}:
                    raise


def wait_until_answering(site: Site) -> None:
    """Wait until the bot answers requests."""
    for _ in range(100):
        try:
            site.notes()
        except (requests.RequestException, KeyError):  # a bot that migrates answers without notes
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the bot does not answer")
