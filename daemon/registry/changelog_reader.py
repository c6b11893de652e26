"""Reading a release's changelog on whichever engine can: claim, pull, read, write down."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound

from daemon.engine.client import EngineUnreachable, connect, pull
from daemon.engine.labels import INSTALL_LABEL
from daemon.errors import OperationFailed
from daemon.registry.changelog_file import InvalidChangelog, read_changelog
from daemon.registry.credentials import Credentials
from daemon.registry.errors import RegistryError
from portal.database import Database
from portal.models import Node, utcnow
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services import fleet_settings
from portal.services.releases import changelogs
from portal.services.releases.changelogs import ClaimedReading
from portal.services.rollouts import notifications
from portal.settings import Settings

logger = logging.getLogger(__name__)


def read_and_record(database: Database, settings: Settings, release_id: str, now: datetime) -> None:
    """Read the changelog of a release, unless it was read already or somebody else is at it.

    Trouble is written down and the reading tried again after a growing pause. It never holds up a rollout: a release
    without changelog can be rolled out.
    """
    with database.transaction() as session:
        reading = changelogs.claim_reading(session, release_id, now)
        labels = {INSTALL_LABEL: fleet_settings.get_settings(session).install_id}
    if reading is None:
        return
    try:
        changelog = _read_anywhere(database, reading, settings, labels)
    except InvalidChangelog as error:
        logger.warning("the changelog of %s breaks the contract: %s", reading.image, error)
        with database.transaction() as session:
            release = changelogs.record_invalid(session, release_id, str(error), now)
            notifications.notify_update_available(session, release)
    except (DockerException, OperationFailed, RegistryError, ImageNotAllowed) as error:
        logger.warning("the changelog of %s could not be read: %s", reading.image, error)
        with database.transaction() as session:
            changelogs.record_failure(session, release_id, str(error), now)
    else:
        with database.transaction() as session:
            release = changelogs.record_changelog(session, release_id, changelog, now)
            notifications.notify_update_available(session, release)


def _read_anywhere(
    database: Database, reading: ClaimedReading, settings: Settings, labels: Mapping[str, str]
) -> dict[str, Any] | None:
    reference = parse_reference(reading.image)
    Allowlist.parse(settings.fleet_image_allowlist).require(reference)
    credential = Credentials.from_docker_config(settings.registry_config).for_registry(reference.registry)
    auth = credential.for_engine() if credential else None
    trouble = EngineUnreachable("No active node has a platform this release was built for.")
    for node in reading.nodes:
        try:
            return _read_on(node, database, reading, auth, labels)
        except EngineUnreachable as error:
            trouble = error
    raise trouble


def _read_on(
    node: Node, database: Database, reading: ClaimedReading, auth: dict[str, str] | None, labels: Mapping[str, str]
) -> dict[str, Any] | None:
    engine = connect(node)
    try:
        if not _has(engine, reading.image):
            # Before the pull: a worker that dies in between must not leave an image that nobody ever removes.
            with database.transaction() as session:
                changelogs.record_pull(session, reading.release_id, node.id, utcnow())
        pull(engine, reading.image, auth)
        return read_changelog(engine, reading.image, labels)
    finally:
        engine.close()


def _has(engine: docker.APIClient, image: str) -> bool:
    try:
        engine.inspect_image(image)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return False
    return True
