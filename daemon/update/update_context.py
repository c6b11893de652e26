"""One worker's hold on one update: its rows, the engine, and a pen that only the holder of the bot can write with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any

import docker
from docker.errors import DockerException
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine import containers, health_probe
from daemon.engine.client import EngineUnreachable, connect
from daemon.engine.health_probe import HealthResult
from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, UPDATE_LABEL, container_name
from daemon.errors import OperationFailed
from daemon.snapshots.archives import SnapshotHelper
from portal.models import Bot, BotUpdate, Node, Release, Step
from portal.rules.references import parse_reference
from portal.rules.strategies import strategy_for
from portal.services import fleet_settings
from portal.services.bots.leases import LeaseLost
from portal.services.rollouts import updates
from portal.settings import Settings

UNDECIDABLE = (EngineUnreachable, LeaseLost, OperationalError)
"""Without engine, lease or database nothing can be decided: the row stays as it is, for whoever takes it over."""


class UpdateContext:
    """Everything the steps of one update share.

    Args:
        settings: of this installation.
        lease: held on the update's bot.
        update_id: the update, running.
    """

    def __init__(self, settings: Settings, lease: BotLease, update_id: str) -> None:
        self.settings = settings
        self.lease = lease
        with lease.transaction() as session:
            self.update = session.get_one(BotUpdate, update_id)
            self.bot: Bot = self.update.bot
            self.node: Node = self.bot.node
            rollout = self.update.rollout
            self.release: Release = rollout.release
            install = fleet_settings.get_settings(session).install_id
        self._strategy = strategy_for(rollout.strategy, rollout.parameters)
        self.labels = {INSTALL_LABEL: install, BOT_LABEL: self.bot.id, UPDATE_LABEL: update_id}

    @cached_property
    def engine(self) -> docker.APIClient:
        """The node's engine, connected to when first needed.

        Raises:
            EngineUnreachable: it does not answer.
        """
        engine = connect(self.node)
        engine.timeout = CALL_SECONDS
        return engine

    def require_engine(self) -> None:
        """Make sure that the engine is not just shutting down, before a container that ended is blamed for it.

        An engine that shuts down ends its containers, and goes on answering on the connections it has.

        Raises:
            EngineUnreachable: it takes no new connection.
        """
        connect(self.node).close()

    def close(self) -> None:
        """Close the connection to the engine, if there is one."""
        if "engine" in vars(self):
            self.engine.close()

    @contextmanager
    def write(self) -> Iterator[tuple[Session, BotUpdate]]:
        """One fenced transaction on the update.

        Raises:
            LeaseLost: when the bot is no longer ours; nothing is written.
        """
        with self.lease.transaction() as session:
            update = session.get_one(BotUpdate, self.update.id)
            yield session, update
        self.update = update

    def enter(self, step: Step) -> None:
        """Write down that a step begins, before its first effect."""
        with self.write() as (session, update):
            updates.enter_step(session, update, step)

    def note(self, **facts: Any) -> None:
        """Write down small facts that a takeover needs."""
        with self.write() as (session, update):
            updates.add_to_journal(session, update, **facts)

    def guarded_engine(self) -> docker.APIClient:
        """The engine, for one effect: asked for anew before each, so that each is made under a valid lease."""
        self.lease.renew_or_raise()
        return self.engine

    def wait_until_healthy(self, container_id: str) -> HealthResult:
        """Wait until a container of this bot that was just started answers well."""
        return health_probe.wait_until_healthy(
            self.engine,
            container_id,
            self.node,
            self.bot.port,
            self.bot.health_path,
            timeout=self.health_timeout.total_seconds(),
            interval=self.settings.health_interval.total_seconds(),
            renew_or_raise=self.lease.renew_or_raise,
        )

    @property
    def health_timeout(self) -> timedelta:
        """How long a container may take to become healthy: what the strategy says, unless the setting is given."""
        return self.settings.health_timeout or self._strategy.health_check_timeout()

    @property
    def image(self) -> str:
        """The release as `repository@digest`."""
        return parse_reference(self.release.repository).pinned(self.release.digest)

    @property
    def keep_tag(self) -> tuple[str, str]:
        """Repository and tag that keep the old image from being pruned while it may be needed."""
        return "flotilla/keep", self.bot.id

    @property
    def saved(self) -> dict[str, Any]:
        """Description of the old container and its image, as captured."""
        saved: dict[str, Any] = self.update.saved_container
        return saved

    @property
    def old(self) -> str:
        """Id of the old container."""
        return _known(self.update.old_container_id)

    @property
    def new(self) -> str:
        """Id of the new container."""
        return _known(self.update.new_container_id)

    @property
    def name(self) -> str:
        """Name that the new container takes over: the old one's of now, should somebody have renamed it since."""
        return containers.name_of_container(self.saved["container"])

    @property
    def name_of_new(self) -> str:
        """Temporary name of the new container."""
        return container_name(self.update.id, "new")

    @property
    def name_of_old(self) -> str:
        """Name of the old container while it is set aside."""
        return container_name(self.update.id, "old")

    @property
    def helper(self) -> SnapshotHelper:
        """Helper containers of the image that was checked in the preflight."""
        return self._helper_of(self.update.journal.get("helper_image", self.settings.snapshot_image))

    def helper_again(self) -> SnapshotHelper:
        """The same, or should somebody have pruned that image meanwhile, helpers of the one the setting names.

        Raises:
            HelperFailed: that one does not do.
            PullFailed: it cannot be had.
        """
        helper = self.helper
        if not helper.is_there():
            helper = self._helper_of(self.settings.snapshot_image)
            helper.require_image()
        return helper

    def _helper_of(self, image: str) -> SnapshotHelper:
        return SnapshotHelper(self.engine, image, self.labels, self.update.id, self.lease.renew_or_raise)


def _known(container_id: str | None) -> str:
    if container_id is None:
        raise OperationFailed("the journal names no container; this is an error in Flotilla itself")
    return container_id


def describe_error(error: Exception) -> str:
    """What went wrong, for the operator. Texts of unknown errors might hold anything, so only their kind is told."""
    if isinstance(error, OperationFailed):
        return str(error)
    if isinstance(error, DockerException):
        return f"the engine refused: {getattr(error, 'explanation', None) or error}"
    return f"an error in Flotilla itself ({type(error).__name__}); the worker's log has the details"
