"""Context of one update: rows, engine, names, fenced transactions. Used by all steps, rollback and recovery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any

import docker
from docker.errors import APIError, DockerException
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.engine import containers, health_probe
from daemon.engine.client import describe_error, open_engine
from daemon.engine.health_probe import HealthCheck, HealthResult
from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, KEEP_REPOSITORY, UPDATE_LABEL, container_name, helper_name
from daemon.engine.recreate import creation
from daemon.errors import EngineTrouble, OperationFailed
from daemon.snapshots.archives import SnapshotHelper, VolumeSizes
from daemon.snapshots.snapshot_taker import SnapshotTaker
from portal.database import UNAVAILABLE_ERRORS
from portal.models import Bot, BotUpdate, Node, Release, Step, utcnow
from portal.rules.health_check_timeout import choose_timeout
from portal.rules.references import parse_reference
from portal.rules.strategies import strategy_for
from portal.services.bots.leases import LeaseLost
from portal.services.rollouts import updates
from portal.settings import Settings

logger = logging.getLogger(__name__)

INFRASTRUCTURE_ERRORS = (LeaseLost, *UNAVAILABLE_ERRORS)
"""Errors of lease and database. They decide nothing: the row stays as it is, and a later job resumes it."""

_TEXT_NOT_STORED = "The details could not be stored."


class UpdateContext:
    """What the steps of one update share. The caller closes it.

    Args:
        settings: settings of this installation.
        lease: lease on the bot of the update.
        update: the update, in state running or in need of cleanup, as `updates.load` returned it.
        install_id: the random id of this installation.
    """

    def __init__(self, settings: Settings, lease: BotLease, update: BotUpdate, install_id: str) -> None:
        self.settings = settings
        self.lease = lease
        self.update = update
        self.bot: Bot = update.bot
        self.node: Node = self.bot.node
        rollout = update.rollout
        self.release: Release = rollout.release
        self._strategy = strategy_for(rollout.strategy, rollout.parameters)
        self._connections = ExitStack()
        self.snapshot_taker: SnapshotTaker | None = None
        """The helper that takes the snapshots of this update. It belongs to the worker that started it."""
        self.new_image: dict[str, Any] = {}
        """The engine's description of the release's image, which the worker has pulled."""
        self.address: str | None = None
        """Where the new container answered when it was found healthy."""
        self.labels = {INSTALL_LABEL: install_id, BOT_LABEL: self.bot.id, UPDATE_LABEL: update.id}

    @cached_property
    def engine(self) -> docker.APIClient:
        """The node's engine, connected on first use.

        Raises:
            EngineUnreachable: the engine does not answer.
        """
        return self._connections.enter_context(open_engine(self.node, CALL_SECONDS))

    def require_engine(self) -> None:
        """Verify that the engine accepts connections, before a container that exited is blamed.

        An engine that shuts down stops its containers but still answers on existing connections.

        Raises:
            EngineUnreachable: the engine accepts no new connection.
        """
        with open_engine(self.node):
            pass

    def close(self) -> None:
        """Close the connection to the engine."""
        self._connections.close()

    @contextmanager
    def transaction(self) -> Iterator[tuple[Session, BotUpdate]]:
        """Open a fenced transaction and load the update in it.

        Raises:
            LeaseLost: the bot's lease was lost; nothing is written.
        """
        with self.lease.transaction() as session:
            update = updates.load(session, self.update.id)
            yield session, update
        self.update = update

    def enter_step(self, step: Step) -> None:
        """Record that a step begins, before its first effect."""
        self.update = self.lease.change(
            lambda session, is_held: updates.enter_step(session, self.update, step, utcnow(), is_held)
        )

    def record_outcome(self, record: Callable[..., None], *texts: str | None) -> None:
        """Record an outcome with diagnostic texts, or without them when the database refuses a text.

        No text may keep a bot from its rollback. Columns clean what they store, but a database with another encoding
        than UTF-8 refuses more.

        Args:
            record: called with the session, the update and the texts, in a fenced transaction.
            texts: errors, log lines and instructions.
        """
        try:
            with self.transaction() as (session, update):
                record(session, update, *texts)
        except INFRASTRUCTURE_ERRORS:
            raise
        except (SQLAlchemyError, ValueError) as error:
            # Without the texts, because a log may contain secrets of the bot.
            logger.exception("the details of update %s were refused", self.update.id, exc_info=error)
            with self.transaction() as (session, update):
                record(session, update, *(text and _TEXT_NOT_STORED for text in texts))

    def add_to_journal(self, **facts: Any) -> None:
        """Add small facts to the journal, for a worker that takes over."""
        self.update = self.lease.change(
            lambda session, is_held: updates.add_to_journal(session, self.update, is_held, **facts)
        )

    def record(self, **values: Any) -> None:
        """Set columns of the update."""
        self.update = self.lease.change(
            lambda session, is_held: updates.record(session, self.update, is_held, **values)
        )

    def guarded_engine(self) -> docker.APIClient:
        """Return the engine for an effect, for which the lease is certainly valid. Call this before each effect.

        Raises:
            LeaseLost: the bot's lease was lost.
        """
        self.lease.renew_or_raise()
        return self.engine

    def create_container(self, plan: creation.Plan, name: str) -> str:
        """Create a container of this update without starting it, and return its id.

        Raises:
            EngineTrouble: the engine has just carried out an earlier call that had no answer.
            APIError: the engine refused.
        """
        try:
            return creation.create(self.guarded_engine(), plan, name)
        except APIError as error:
            if error.status_code == 409:
                raise EngineTrouble(f"The container {name} exists already: {error.explanation}") from error
            raise

    def log_failure(self, message: str, error: Exception) -> None:
        """Log a failure of the update as one line. Only an error in Flotilla gets a traceback.

        Args:
            message: with places for the id of the update and the description of the error.
            error: the error.
        """
        is_expected = isinstance(error, (OperationFailed, DockerException))
        logger.warning(message, self.update.id, describe_error(error), exc_info=None if is_expected else error)

    def wait_until_healthy(self, container_id: str) -> HealthResult:
        """Wait until a container of this bot that was just started is healthy."""
        return health_probe.wait_until_healthy(
            self.engine,
            container_id,
            self.node,
            self.health_check,
            timeout=self.health_check_timeout.total_seconds(),
            interval=self.settings.health_interval.total_seconds(),
        )

    @property
    def health_check(self) -> HealthCheck:
        """The health check of the bot."""
        return HealthCheck.of(self.bot)

    @property
    def health_check_timeout(self) -> timedelta:
        """Time limit of the health check."""
        return choose_timeout(self.settings.health_check_timeout, self._strategy.health_check_timeout())

    @property
    def image(self) -> str:
        """The release as `repository@digest`."""
        return parse_reference(self.release.repository).pinned(self.release.digest)

    @property
    def keep_tag(self) -> tuple[str, str]:
        """Repository and tag that protect the old image from pruning while the update may need it."""
        return KEEP_REPOSITORY, self.bot.id

    @property
    def saved(self) -> dict[str, Any]:
        """Captured description of the old container and its image."""
        saved: dict[str, Any] = self.update.saved_container
        return saved

    @property
    def old_container(self) -> str:
        """Id of the old container."""
        return _require_id(self.update.old_container_id)

    @property
    def new_container(self) -> str:
        """Id of the new container."""
        return _require_id(self.update.new_container_id)

    @property
    def bot_name(self) -> str:
        """Name of the bot's container: that of the old container when it was captured."""
        return containers.name_of_container(self.saved["container"])

    @property
    def temporary_name(self) -> str:
        """Name of the new container before the swap."""
        return container_name(self.update.id, "new")

    @property
    def set_aside_name(self) -> str:
        """Name of the old container after the swap."""
        return container_name(self.update.id, "old")

    @property
    def volume_sizes(self) -> VolumeSizes:
        """Sizes of the volumes as measured before the stop."""
        return VolumeSizes(*self.update.journal.get("volume_sizes", ()))

    @property
    def helper(self) -> SnapshotHelper:
        """Helper containers of the image that the preflight checked."""
        return self._build_helper(self.update.journal.get("helper_image", self.settings.snapshot_image))

    def helper_name(self, role: str) -> str:
        """Return the name of a helper container of this update."""
        return helper_name(self.update.id, role, self.lease.fence)

    def require_helper(self) -> SnapshotHelper:
        """Return helper containers of the checked image, or of the configured image if that one was pruned.

        Raises:
            PullFailed: the configured image cannot be pulled.
        """
        helper = self.helper
        if not helper.has_image():
            helper = self._build_helper(self.settings.snapshot_image)
            helper.pull_image()
        return helper

    def _build_helper(self, image: str) -> SnapshotHelper:
        return SnapshotHelper(
            self.engine,
            image,
            self.labels,
            self.update.id,
            self.lease.renew_or_raise,
            fence=self.lease.fence,
            capabilities=self.update.journal.get("helper_capabilities", ()),
        )


def _require_id(container_id: str | None) -> str:
    if container_id is None:
        raise OperationFailed("The journal names no container; this is an error in Flotilla")
    return container_id
