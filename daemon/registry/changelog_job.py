"""The work of the job `read_changelog`: claim a release, pull its image, read the changelog, record it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from docker.errors import DockerException

from daemon.engine.client import EngineUnreachable, open_engine
from daemon.engine.labels import INSTALL_LABEL
from daemon.errors import OperationFailed
from daemon.network.deadlines import Deadline, DeadlineExceeded
from daemon.registry.changelog_format import InvalidChangelog
from daemon.registry.changelog_reader import read_changelog
from daemon.registry.errors import RegistryError
from daemon.registry.image_pull import has_image, pull_image
from portal.database import Database
from portal.models import Node
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services import fleet_settings
from portal.services.releases import changelogs
from portal.services.releases.changelogs import ClaimedReading
from portal.services.rollouts import notifications
from portal.settings import Settings

READ_SECONDS = 480.0
"""Time limit for the pull and the reading, on all nodes together. It is shorter than the claim on the reading, so
that no two workers read one changelog at once. Engines keep complete layers for the next attempt."""

logger = logging.getLogger(__name__)


def read_and_record(database: Database, settings: Settings, release_id: str, now: datetime) -> None:
    """Read the changelog of a release unless it was read before or another worker is reading it.

    Failures are recorded and retried after growing pauses. They do not delay rollouts, because a release can be
    rolled out without a changelog.

    Args:
        database: where releases and nodes are stored.
        settings: the allowlist and the registry credentials.
        release_id: the release.
        now: the current moment in UTC.
    """
    with database.transaction() as session:
        reading = changelogs.claim_reading(session, release_id, now)
        labels = {INSTALL_LABEL: fleet_settings.get_settings(session).install_id}
    if reading is None:
        return
    # An installation that polls more often than usual, such as a demo, does not wait longer than one poll.
    collect = min(settings.poll_every or notifications.COLLECT_RELEASES, notifications.COLLECT_RELEASES)
    try:
        with Deadline(READ_SECONDS):
            changelog = _read_on_any_node(database, reading, settings, labels, now)
    except InvalidChangelog as error:
        logger.warning("the changelog of %s is invalid: %s", reading.image, error)
        with database.transaction() as session:
            release = changelogs.record_invalid(session, release_id, str(error), now)
            notifications.notify_update_available(session, release, now, collect)
    except (DeadlineExceeded, DockerException, OperationFailed, RegistryError, ImageNotAllowed) as error:
        logger.warning("the changelog of %s could not be read: %s", reading.image, error)
        with database.transaction() as session:
            changelogs.record_failure(session, release_id, str(error), now)
    except Exception as error:
        logger.exception("the changelog of %s could not be read", reading.image)
        problem = f"The changelog cannot be processed ({type(error).__name__}). See the worker's log."
        with database.transaction() as session:
            changelogs.record_failure(session, release_id, problem, now)
    else:
        with database.transaction() as session:
            release = changelogs.record_changelog(session, release_id, changelog, now)
            notifications.notify_update_available(session, release, now, collect)


def _read_on_any_node(
    database: Database, reading: ClaimedReading, settings: Settings, labels: Mapping[str, str], now: datetime
) -> dict[str, Any] | None:
    Allowlist.parse(settings.fleet_image_allowlist).require(parse_reference(reading.image))
    last_error = EngineUnreachable("No active node has a platform for which this release was built.")
    for node in reading.nodes:
        try:
            return _read_on(node, database, reading, settings, labels, now)
        except EngineUnreachable as error:
            last_error = error
    raise last_error


def _read_on(  # noqa: PLR0917 - all of them differ per call
    node: Node,
    database: Database,
    reading: ClaimedReading,
    settings: Settings,
    labels: Mapping[str, str],
    now: datetime,
) -> dict[str, Any] | None:
    with open_engine(node) as engine:
        if not has_image(engine, reading.image):
            # Recorded before the pull, so that the collector removes the image even if this worker dies in between.
            with database.transaction() as session:
                changelogs.record_pull(session, reading.release_id, node.id, now)
        pull_image(engine, settings, reading.image)
        return read_changelog(engine, reading.image, labels)
