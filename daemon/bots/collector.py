"""Clears what died workers and old releases left on an engine, and nothing else.

A container is removed only when all of this holds: this installation made it (its label), it is no bot's container,
it bears a temporary or helper name, and the update of that name is finished, cleaned up and needs nobody's
attention; or it was made to read a changelog, long ago. So nothing that an update, a rollback or a person may still
need is ever taken.

An image goes when this installation pulled it, for an update or to read its changelog, a week has passed since, and
no bot of the node needs it (see `leftovers.images_over`). One that has a tag was given it by somebody, and stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from daemon.engine.client import connect
from daemon.engine.labels import CHANGELOG_PREFIX, INSTALL_LABEL, is_helper, update_id_of
from portal.database import Database
from portal.models import Node, utcnow
from portal.services.bots import leftovers

logger = logging.getLogger(__name__)

_READING_IS_OVER_AFTER = timedelta(hours=1)
_IMAGES_STAY = timedelta(days=7)


def collect_node(database: Database, node_id: str) -> list[str]:
    """Remove what is left over on a node.

    Volumes stay, whatever container they belonged to: only helpers take along what their own image declares.

    Returns:
        The names of the containers and images removed.

    Raises:
        EngineUnreachable: the node does not answer.
    """
    with database.reading() as session:
        node = session.get(Node, node_id)
        install = leftovers.find_install_id(session)
    if node is None or install is None:
        return []
    engine = connect(node)
    try:
        containers = _leftovers(engine, database, node_id, install)
        removed = [name for name, container in containers if _remove(engine, name, container)]
        with database.reading() as session:
            images = leftovers.list_unneeded_images(session, node_id, utcnow() - _IMAGES_STAY)
        return removed + [image for image in images if _remove_image(engine, image)]
    finally:
        engine.close()


def _leftovers(engine: docker.APIClient, database: Database, node_id: str, install: str) -> list[tuple[str, str]]:
    """Names and ids. The engine is asked first: what is made after that belongs to something that is not over."""
    made_by_us = engine.containers(all=True, filters={"label": f"{INSTALL_LABEL}={install}"})
    candidates = [(name, str(container["Id"])) for container in made_by_us for name in _temporary_names(container)]
    with database.reading() as session:
        over = leftovers.list_cleaned_updates(session, {str(update_id_of(name)) for name, _ in candidates})
        of_bots = leftovers.list_bot_containers(session, node_id)
    found = [
        (name, container) for name, container in candidates if update_id_of(name) in over and container not in of_bots
    ]
    return [*found, *_of_readings(made_by_us)]


def _of_readings(made_by_us: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for container in made_by_us:
        age = utcnow() - datetime.fromtimestamp(container["Created"], UTC)
        for name in container["Names"]:
            if name.removeprefix("/").startswith(CHANGELOG_PREFIX) and age > _READING_IS_OVER_AFTER:
                yield name.removeprefix("/"), str(container["Id"])


def _temporary_names(container: dict[str, Any]) -> list[str]:
    names = (name.removeprefix("/") for name in container["Names"])
    return [name for name in names if update_id_of(name)]


def _remove(engine: docker.APIClient, name: str, container: str) -> bool:
    try:
        engine.remove_container(container, force=True, v=is_helper(name) or name.startswith(CHANGELOG_PREFIX))
    except APIError as error:
        if error.status_code not in {404, 409}:  # gone, or somebody is removing it
            logger.warning("could not remove %s: %s", name, error.explanation)
        return False
    logger.info("removed %s, which was left over", name)
    return True


def _remove_image(engine: docker.APIClient, image: str) -> bool:
    try:
        if engine.inspect_image(image)["RepoTags"]:  # type: ignore[no-untyped-call]
            return False
        engine.remove_image(image)
    except ImageNotFound:
        return False
    except APIError as error:
        if error.status_code != 409:  # a container was made of it
            logger.warning("could not remove %s: %s", image, error.explanation)
        return False
    logger.info("removed %s, which no bot of the node needs", image)
    return True
