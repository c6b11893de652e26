"""The job that creates the container of a new bot: pull, volumes, container, start, health check, activation.

A worker that dies leaves a container with a fixed name and labels. The next worker finds it and continues with it, or
replaces it if the settings changed in between. A failed attempt removes what it created. Volumes of earlier attempts
stay, because a bot of a restored backup may already have been active: they are removed only with the bot.
"""

from __future__ import annotations

import logging

import docker
from docker.errors import APIError

from daemon.bot_lease import CALL_SECONDS, BotLease
from daemon.bots import new_container
from daemon.bots.new_container import CreationFailed
from daemon.engine import containers, health_probe, volumes
from daemon.engine.client import describe_error, open_engine
from daemon.engine.health_probe import HealthCheck
from daemon.engine.labels import bot_container_name
from daemon.engine.recreate.capture import capture
from daemon.registry.image_pull import has_image, pull_image
from portal.database import UNAVAILABLE_ERRORS, Database
from portal.models import utcnow
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.health_check_timeout import HEALTH_CHECK_TIMEOUT, choose_timeout
from portal.rules.references import parse_reference
from portal.services.bots import creation_progress
from portal.services.bots.creation_progress import Attempt
from portal.services.bots.leases import BotBusy, LeaseLost
from portal.settings import Settings

logger = logging.getLogger(__name__)

_LOG_CHARACTERS = 1000


class _StartRefused(CreationFailed):
    """The engine refused to start the container, perhaps because another program uses its port."""


def create(database: Database, settings: Settings, bot_id: str) -> None:
    """Create the container of a bot if that is due, and make the bot active once it is healthy.

    The reason of a failure is recorded for operators, and the scheduler enqueues the job again after a growing wait.

    Args:
        database: database of this installation.
        settings: allowlist, credentials and times.
        bot_id: the bot.
    """
    try:
        with BotLease(database, bot_id) as lease:
            with lease.transaction() as session:
                attempt = creation_progress.begin_attempt(session, bot_id, utcnow())
            if attempt is not None:
                _try(settings, lease, attempt)
    except (BotBusy, LeaseLost) as error:
        logger.info("the creation of bot %s is handled by another worker: %s", bot_id, error)


def _try(settings: Settings, lease: BotLease, attempt: Attempt) -> None:
    try:
        with open_engine(attempt.node, CALL_SECONDS) as engine:
            _Creation(settings, lease, attempt, engine).run()
    except (LeaseLost, *UNAVAILABLE_ERRORS):
        raise
    except Exception as error:
        text = describe_error(error)
        logger.warning("the creation of bot %s failed: %s", attempt.bot.id, text, exc_info=error)
        change_port = isinstance(error, _StartRefused)
        with lease.transaction() as session:
            creation_progress.end_failed(session, attempt, text, utcnow(), change_port=change_port)


class _Creation:
    """One attempt with its connection to the engine."""

    def __init__(self, settings: Settings, lease: BotLease, attempt: Attempt, engine: docker.APIClient) -> None:
        self._settings = settings
        self._lease = lease
        self._attempt = attempt
        self._engine = engine
        self._created_volumes: list[str] = []
        self._created_container = False

    def run(self) -> None:
        """Create, start and check the container, then activate the bot; on failure remove what was created.

        Raises:
            OperationFailed, DockerException, ImageNotAllowed: the attempt failed.
        """
        container_id = self._find_current()
        try:
            self._require_allowed_image()
            container_id = container_id or self._create()
            self._start(container_id)
            is_activated = self._activate(container_id, self._wait_until_healthy(container_id))
        except (CreationFailed, APIError, ImageNotAllowed):
            self._undo(container_id)
            raise
        if not is_activated:  # the bot was removed or got other settings in between
            self._undo(container_id)

    def _find_current(self) -> str | None:
        """Return the container of an earlier attempt. One with other settings is removed first."""
        found = new_container.find(self._engine, self._attempt)
        if found is None or new_container.is_current(found, self._attempt):
            return str(found["Id"]) if found else None
        self._remove_container(str(found["Id"]))
        return None

    def _require_allowed_image(self) -> None:
        # The allowlist may have changed since an earlier attempt has created the container.
        allowlist = Allowlist.parse(self._settings.fleet_image_allowlist)
        allowlist.require(parse_reference(self._attempt.image))

    def _create(self) -> str:
        image = self._attempt.image
        host_ip = new_container.resolve_host_ip(self._attempt.node.bot_host)
        if not has_image(self._engine, image):
            with self._lease.transaction() as session:
                creation_progress.record_pull(session, self._attempt, utcnow())
        pull_image(self._engine, self._settings, image)
        self._lease.renew_or_raise()
        self._created_volumes = new_container.create_volumes(self._engine, self._attempt)
        config = new_container.build_config(self._attempt, host_ip)
        self._lease.renew_or_raise()
        name = bot_container_name(self._attempt.bot.id)
        created = self._engine.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
        self._created_container = True
        return str(created["Id"])

    def _start(self, container_id: str) -> None:
        self._lease.renew_or_raise()
        try:
            containers.start(self._engine, container_id)
        except APIError as error:
            raise _StartRefused(f"The engine did not start the container: {error.explanation}") from error

    def _wait_until_healthy(self, container_id: str) -> str | None:
        timeout = choose_timeout(self._settings.health_check_timeout, HEALTH_CHECK_TIMEOUT)
        result = health_probe.wait_until_healthy(
            self._engine,
            container_id,
            self._attempt.node,
            HealthCheck.of(self._attempt.bot),
            timeout=timeout.total_seconds(),
            interval=self._settings.health_interval.total_seconds(),
        )
        if not result.healthy:
            raise CreationFailed(self._describe_unhealthy(container_id, result.reason))
        return result.address

    def _describe_unhealthy(self, container_id: str, reason: str) -> str:
        log = self._attempt.hide_secrets((containers.log_tail(self._engine, container_id) or "").strip())
        lines = f"\nLast lines of the log:\n{_take_last_lines(log)}" if log else ""
        return f"Health check failed: {reason}{lines}"

    def _activate(self, container_id: str, address: str | None) -> bool:
        found = capture(self._engine, container_id)
        with self._lease.transaction() as session:
            return creation_progress.activate(session, self._attempt, found, address, utcnow())

    def _undo(self, container_id: str | None) -> None:
        if container_id is not None:
            self._remove_container(container_id)
        self._lease.renew_or_raise()
        for name in self._created_volumes:
            volumes.remove(self._engine, name)

    def _remove_container(self, container_id: str) -> None:
        containers.set_restart_policy(self._engine, container_id, containers.NO_RESTART)
        containers.stop(self._engine, container_id, self._lease.renew_or_raise)
        self._lease.renew_or_raise()
        containers.remove(self._engine, container_id, with_anonymous_volumes=self._created_container)


def _take_last_lines(log: str) -> str:
    """Return the end of a log. It begins with a whole line, unless the last line alone is too long."""
    end = log[-_LOG_CHARACTERS:]
    return end.partition("\n")[2] or end if len(log) > _LOG_CHARACTERS else log
