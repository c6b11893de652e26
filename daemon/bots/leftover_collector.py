"""The job that removes leftover containers and images of updates from a node.

A container is removed only when all of this holds: this installation created it (label), it is not the container of a
bot, it has a temporary or helper name, and the update in that name is finished, cleaned, and does not need attention.
A container that was created to read a changelog or by `flotilla doctor` is removed after an hour.

An image is removed when this installation pulled it for an update or to read its changelog, a week has passed since,
no bot of the node needs it (see `leftovers.list_unneeded_images`), and it has no tag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from daemon.engine.client import open_engine
from daemon.engine.labels import INSTALL_LABEL, is_helper, is_short_lived, update_id_of
from portal.database import Database
from portal.models import Node
from portal.services.bots import leftovers

logger = logging.getLogger(__name__)

_SHORT_LIVED_AGE = timedelta(hours=1)
_IMAGE_RETENTION = timedelta(days=7)


def collect_node(database: Database, node_id: str, now: datetime) -> list[str]:
    """Remove leftover containers and images from a node.

    Volumes stay, except anonymous volumes that the image of a helper declares.

    Returns:
        The names of the removed containers and images.

    Raises:
        EngineUnreachable: the node does not answer.
    """
    with database.reading() as session:
        node = session.get(Node, node_id)
        install = leftovers.find_install_id(session)
    if node is None or install is None:
        return []
    with open_engine(node) as engine:
        candidates = _find_leftovers(engine, database, node_id, install, now)
        removed = [name for name, container_id in candidates if _remove_container(engine, name, container_id)]
        with database.reading() as session:
            images = leftovers.list_unneeded_images(session, node_id, now - _IMAGE_RETENTION)
        return removed + [image for image in images if _remove_image(engine, image)]


def remove_short_lived(engine: docker.APIClient, install: str, now: datetime) -> list[str]:
    """Remove containers for reading changelogs and of `flotilla doctor` that killed processes left an hour ago.

    Returns:
        Their names.
    """
    found = list(_old_short_lived(_list_created_here(engine, install), now))
    return [name for name, container_id in found if _remove_container(engine, name, container_id)]


def _list_created_here(engine: docker.APIClient, install: str) -> list[dict[str, Any]]:
    filters = {"label": f"{INSTALL_LABEL}={install}"}
    created: list[dict[str, Any]] = engine.containers(all=True, filters=filters)
    return created


def _find_leftovers(
    engine: docker.APIClient, database: Database, node_id: str, install: str, now: datetime
) -> list[tuple[str, str]]:
    """Return names and ids of leftover containers.

    The engine is queried before the database, so that a container created in between cannot count as a leftover.
    """
    created_here = _list_created_here(engine, install)
    candidates = [(name, str(container["Id"])) for container in created_here for name in _temporary_names(container)]
    with database.reading() as session:
        cleaned = leftovers.list_cleaned_updates(session, {str(update_id_of(name)) for name, _ in candidates})
        bot_containers = leftovers.list_bot_containers(session, node_id)
    of_updates = [
        (name, container_id)
        for name, container_id in candidates
        if update_id_of(name) in cleaned and container_id not in bot_containers
    ]
    return [*of_updates, *_old_short_lived(created_here, now)]


def _old_short_lived(created_here: list[dict[str, Any]], now: datetime) -> Iterator[tuple[str, str]]:
    for container in created_here:
        age = now - datetime.fromtimestamp(container["Created"], UTC)
        for name in container["Names"]:
            if is_short_lived(name.removeprefix("/")) and age > _SHORT_LIVED_AGE:
                yield name.removeprefix("/"), str(container["Id"])


def _temporary_names(container: dict[str, Any]) -> list[str]:
    names = (name.removeprefix("/") for name in container["Names"])
    return [name for name in names if update_id_of(name)]


def _remove_container(engine: docker.APIClient, name: str, container_id: str) -> bool:
    with_volumes = is_helper(name) or is_short_lived(name)
    try:
        engine.remove_container(container_id, force=True, v=with_volumes)
    except APIError as error:
        if error.status_code not in {404, 409}:  # it is gone, or its removal is in progress
            logger.warning("could not remove container %s: %s", name, error.explanation)
        return False
    logger.info("removed leftover container %s", name)
    return True


def _remove_image(engine: docker.APIClient, image: str) -> bool:
    try:
        if engine.inspect_image(image)["RepoTags"]:  # type: ignore[no-untyped-call]
            return False
        engine.remove_image(image)
    except ImageNotFound:
        return False
    except APIError as error:
        if error.status_code != 409:  # a container uses it
            logger.warning("could not remove image %s: %s", image, error.explanation)
        return False
    logger.info("removed image %s, which no bot of the node needs", image)
    return True
