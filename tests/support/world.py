"""A fleet of rows: organizations, bots and releases without any container, and workers that only write outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.rollout import orchestrator
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    Event,
    FleetMode,
    Node,
    Org,
    PolledImage,
    Release,
    Rollout,
    SkipReason,
    StrategyName,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
    User,
    move,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.services import fleet_settings
from portal.services.releases import releases
from portal.services.rollouts import rollouts, selection, transitions

REPOSITORY = "ghcr.io/acme/bot"
IMAGE = f"{REPOSITORY}:stable"
ALLOWLIST = Allowlist.parse(["ghcr.io/acme"])
HOUR = 3

Worker = Callable[[Bot], str]


def good(_bot: Bot) -> str:
    """Every update succeeds."""
    return "good"


def bad(_bot: Bot) -> str:
    """Every new container is unhealthy, and every rollback works."""
    return "bad"


class World:
    """A fleet in a database. Its clock stands still, in the first minutes of the hour most organizations chose.

    The year is far away, so that whatever a service stamps with the real time lies in the past.
    """

    def __init__(self, database: Database) -> None:
        """Begin with one node, an operator, and release 1.0.0 behind the tag."""
        self.database = database
        self.now = datetime(2100, 5, 4, HOUR, 5, tzinfo=UTC)
        with database.transaction() as session:
            root = User(email="root@example.com", email_normalized="root@example.com", name="Root")
            node = Node(name="one", docker_url="unix:///nowhere", snapshot_dir="/nowhere")
            session.add_all([root, node])
            session.flush()
            self.root_id, self.node_id = root.id, node.id
        self.first = self.push("1.0.0")

    def push(self, version: str, image: str = IMAGE) -> str:
        """Let the tag point at a new release, or again at one it pointed at before; gives its id."""
        digest = f"sha256:{version.replace('.', '').ljust(64, '0')}"
        with self.database.transaction() as session:
            release = session.scalar(sa.select(Release).where(Release.digest == digest))
            if release is None:
                changelog = {"version": version, "date": "2100-05-04", "sections": []}
                release = Release(
                    repository=REPOSITORY,
                    image=image,
                    digest=digest,
                    changelog=changelog,
                    first_seen_at=self.now + timedelta(seconds=len(session.scalars(sa.select(Release)).all())),
                )
            polled = session.scalar(sa.select(PolledImage).where(PolledImage.image == image)) or PolledImage(
                image=image
            )
            polled.release = release
            session.add_all([release, polled])
            session.flush()
            return release.id

    def add_bots(
        self, number: int, mode: TenantMode | None = TenantMode.AUTO, hour: int = HOUR, **values: Any
    ) -> list[str]:
        """Add running bots on 1.0.0, each of an organization of its own; gives their ids."""
        with self.database.transaction() as session:
            known = len(session.scalars(sa.select(Bot.id)).all())
            digest = session.get_one(Release, self.first).digest
            ids = []
            for index in range(known, known + number):
                org = Org(slug=f"org-{index}", name=f"Org {index}", owner_id=self.root_id)
                session.add(org)
                session.flush()
                if mode is not None:
                    session.add(TenantUpdateConfig(org_id=org.id, mode=mode, preferred_hour_utc=hour))
                fields: dict[str, Any] = {
                    "node_id": self.node_id,
                    "image": IMAGE,
                    "current_digest": digest,
                    "state": BotState.RUNNING,
                    "checked_at": self.now,
                    "created_at": self.now + timedelta(seconds=index),
                }
                bot = Bot(org_id=org.id, name=f"bot {index}", subdomain=f"bot-{index}", **fields | values)
                session.add(bot)
                session.flush()
                ids.append(bot.id)
            return ids

    def start(self, release_id: str, bot_ids: Iterable[str] = (), **values: Any) -> str:
        """Start a rollout as an operator, by default of all bots at once whatever the hour; gives its id."""
        with self.database.transaction() as session:
            arguments: dict[str, Any] = {
                "strategy": StrategyName.ROLLING_WAVE,
                "audience": Audience.NAMED if bot_ids else Audience.ALL,
                "ignore_windows": True,
            }
            rollout_request = selection.RolloutRequest(
                release=releases.get_release(session, release_id),
                bots=[session.get_one(Bot, bot_id) for bot_id in bot_ids],
                **arguments | values,
            )
            return rollouts.start_rollout(
                session, ALLOWLIST, rollout_request, actor=session.get_one(User, self.root_id)
            ).id

    def set_mode(self, mode: FleetMode) -> None:
        """Switch the whole fleet."""
        with self.database.transaction() as session:
            fleet_settings.set_mode(session, mode, None)

    def change(self, kind: type[Bot | Node | Org | TenantUpdateConfig], key: str, **values: Any) -> None:
        """Change a row behind everybody's back."""
        with self.database.transaction() as session:
            row = session.get_one(kind, key)
            for name, value in values.items():
                setattr(row, name, value)

    def tick(self) -> list[str]:
        """Let the orchestrator look once; gives the ids of the updates for workers."""
        return [due.update_id for due in orchestrator.tick(self.database, self.now)]

    def work(self, update_ids: Iterable[str], worker: Worker = good) -> None:
        """Let workers do these updates."""
        for update_id in update_ids:
            self.begin(update_id)
            self.end(update_id, worker)

    def begin(self, update_id: str) -> None:
        """Let a worker begin, if it still may."""
        with self.database.transaction() as session:
            update = session.get_one(BotUpdate, update_id)
            if transitions.may_start_update(session, update):
                values = {"attempt": update.attempt + 1, "started_at": self.now, "error": None}
                assert move(session, update, UpdateState.PENDING, UpdateState.RUNNING, **values)
                update.bot.lease_until = utcnow() + timedelta(minutes=5)

    def end(self, update_id: str, worker: Worker = good) -> None:
        """Let the worker end what it began."""
        with self.database.transaction() as session:
            update = session.get_one(BotUpdate, update_id)
            if update.state is not UpdateState.RUNNING:
                return
            outcome = worker(update.bot)
            update.bot.lease_until = None
            values: dict[str, Any] = {"ended_at": self.now, "cleaned_at": self.now}
            state = UpdateState.UPDATED
            if outcome == "good":
                update.bot.current_digest = update.rollout.release.digest
                update.bot.checked_at = self.now
            elif outcome == "stopped":
                state = UpdateState.SKIPPED
                values["skip_reason"] = SkipReason.STOPPED
            else:
                state = UpdateState.ROLLED_BACK if outcome == "bad" else UpdateState.FAILED
                values |= {"error": "did not become healthy", "transient": outcome == "transient"}
            assert move(session, update, UpdateState.RUNNING, state, **values)

    def run(self, worker: Worker = good, ticks: int = 60) -> None:
        """Let everything happen that happens by itself, until nothing does any more within this hour."""
        for _ in range(ticks):
            due = self.tick()
            self.work(due, worker)
            if not due:
                self.now += timedelta(seconds=61)
                if not self.tick():
                    return

    def count(self, rollout_id: str) -> dict[str, int]:
        """Count the bots of a rollout by state; skipped ones by reason."""
        with self.database.reading() as session:
            found = session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout_id))
            return dict(Counter(str(update.skip_reason or update.state) for update in found))

    def rollouts(self) -> list[Rollout]:
        """All rollouts, the oldest first."""
        with self.database.reading() as session:
            return list(session.scalars(sa.select(Rollout).order_by(Rollout.created_at, Rollout.id)))

    def rollout(self, rollout_id: str) -> Rollout:
        """One rollout."""
        with self.database.reading() as session:
            return session.get_one(Rollout, rollout_id)

    def on(self, release_id: str) -> int:
        """How many bots run this release."""
        with self.database.reading() as session:
            release = session.get_one(Release, release_id)
            return sum(releases.is_running(bot, release) for bot in session.scalars(sa.select(Bot)))

    def events(self, session: Session | None = None) -> list[str]:
        """The tags of the event log, in order."""
        with self.database.reading() as reading:
            return list((session or reading).scalars(sa.select(Event.tag).order_by(Event.id)))
