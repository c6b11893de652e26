"""A simulated fleet: rows without containers, and workers that only record outcomes. Used by tests of rollouts."""

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
    BotUpdate,
    Event,
    FleetMode,
    Node,
    Org,
    PolledImage,
    Release,
    Rollout,
    SkipReason,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
    User,
    move,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services import fleet_settings
from portal.services.releases import releases
from portal.services.rollouts import rollouts, selection, transitions
from tests import factories

REPOSITORY = "ghcr.io/acme/bot"
IMAGE = f"{REPOSITORY}:stable"
ALLOWLIST = Allowlist.parse(["ghcr.io/acme"])
HOUR = 3

Worker = Callable[[Bot], str]


def good(_bot: Bot) -> str:
    """Complete every update."""
    return "good"


def bad(_bot: Bot) -> str:
    """Roll every update back, because the new container is unhealthy."""
    return "bad"


class World:
    """A simulated fleet in a database.

    `now` is the moment of every call and changes only when a test changes it. It starts inside the default update
    window. The year is far in the future, so that moments by the real clock, such as column defaults, are past.
    """

    def __init__(self, database: Database) -> None:
        """Create one node, an operator, and release 1.0.0 at which the tag points."""
        self.database = database
        self.now = datetime(2100, 5, 4, HOUR, 5, tzinfo=UTC)
        self.health_check_timeout: timedelta | None = None
        with database.transaction() as session:
            self.root_id = factories.user(session, "root").id
            self.node_id = factories.node(session, "one").id
        self.first = self.push("1.0.0")

    def push(self, version: str, image: str = IMAGE) -> str:
        """Let the tag point at a new or known release, and return its id."""
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
        """Add running bots on 1.0.0, each with its own organization, and return their ids."""
        with self.database.transaction() as session:
            known = len(session.scalars(sa.select(Bot.id)).all())
            digest = session.get_one(Release, self.first).digest
            node = session.get_one(Node, self.node_id)
            ids = []
            for index in range(known, known + number):
                org = factories.add(session, Org(slug=f"org-{index}", name=f"Org {index}", owner_id=self.root_id))
                if mode is not None:
                    session.add(TenantUpdateConfig(org_id=org.id, mode=mode, preferred_hour_utc=hour))
                fields: dict[str, Any] = {
                    "name": f"bot {index}",
                    "subdomain": f"bot-{index}",
                    "image": IMAGE,
                    "current_digest": digest,
                    "checked_at": self.now,
                    "created_at": self.now + timedelta(seconds=index),
                }
                ids.append(factories.bot(session, org, node, **fields | values).id)
            return ids

    def start(self, release_id: str, bot_ids: Iterable[str] = (), **values: Any) -> str:
        """Start a rollout as the operator, by default of all bots without windows, and return its id."""
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
            operator = session.get_one(User, self.root_id)
            return rollouts.start_rollout(session, ALLOWLIST, rollout_request, self.now, actor=operator).id

    def set_mode(self, mode: FleetMode) -> None:
        """Set the mode of the fleet."""
        with self.database.transaction() as session:
            fleet_settings.set_mode(session, mode, self.now, actor=None)

    def change(self, kind: type[Bot | Node | Org | TenantUpdateConfig], key: str, **values: Any) -> None:
        """Change a row without its service."""
        with self.database.transaction() as session:
            row = session.get_one(kind, key)
            for name, value in values.items():
                setattr(row, name, value)

    def tick(self) -> list[str]:
        """Run one tick of the orchestrator, and return the ids of the updates for workers."""
        return [due.update_id for due in orchestrator.tick(self.database, self.now, self.health_check_timeout)]

    def work(self, update_ids: Iterable[str], worker: Worker = good) -> None:
        """Let workers start and end these updates."""
        for update_id in update_ids:
            self.begin(update_id)
            self.end(update_id, worker)

    def begin(self, update_id: str) -> None:
        """Let a worker start an update, if it may still start."""
        with self.database.transaction() as session:
            update = session.get_one(BotUpdate, update_id)
            if transitions.may_start_update(session, update, self.now):
                values = {"attempt": update.attempt + 1, "started_at": self.now, "error": None}
                assert move(session, update, UpdateState.PENDING, UpdateState.RUNNING, **values)
                update.bot.lease_until = utcnow() + timedelta(minutes=5)

    def end(self, update_id: str, worker: Worker = good) -> None:
        """Let the worker end an update that it has started."""
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
        """Tick and work until no update is due any more, also after a pause between waves."""
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
        """List all rollouts, oldest first."""
        with self.database.reading() as session:
            return list(session.scalars(sa.select(Rollout).order_by(Rollout.created_at, Rollout.id)))

    def rollout(self, rollout_id: str) -> Rollout:
        """Load a rollout."""
        with self.database.reading() as session:
            return session.get_one(Rollout, rollout_id)

    def count_running(self, release_id: str) -> int:
        """Count the bots that run this release."""
        with self.database.reading() as session:
            release = session.get_one(Release, release_id)
            return sum(releases.is_running(bot, release) for bot in session.scalars(sa.select(Bot)))

    def events(self, session: Session | None = None) -> list[str]:
        """List the tags of all events, oldest first."""
        with self.database.reading() as reading:
            return list((session or reading).scalars(sa.select(Event.tag).order_by(Event.id)))
