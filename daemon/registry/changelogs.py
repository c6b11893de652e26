"""Reading a release's changelog on whichever engine can: claim, pull, read, write down."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


def read(database: Database, settings: Settings, release_id: str, now: datetime) -> None:
    """Read the changelog of a release, unless it is read already or somebody else is at it.

    Trouble is written down and tried again after a growing pause; a release without changelog can be rolled out.
    """
    with database.transaction() as session:
        reading = changelogs.claim(session, release_id, now)
        labels = {"flotilla.install": fleet.get(session).install_id}
    if reading is None:
        return
    try:
        changelog = _read(reading, settings, labels)
    except InvalidChangelog as error:
        logger.warning("the changelog of %s breaks the contract: %s", reading.image, error)
        with database.transaction() as session:
            changelogs.note_unusable(session, release_id, str(error), now)
    except (DockerException, UpdateFailed, RegistryError, ImageNotAllowed, NoNodeError) as error:
        logger.warning("the changelog of %s could not be read: %s", reading.image, error)
        with database.transaction() as session:
            changelogs.note_failure(session, release_id, str(error), utcnow())
    else:
        with database.transaction() as session:
            changelogs.note_changelog(session, release_id, changelog, now)
