"""Clears what died workers left on an engine, and nothing else.

A container is removed only when all of this holds: this installation made it (its label), it is no bot's container,
it bears a temporary or helper name, and the update of that name is finished, cleaned up and needs nobody's
attention. So nothing that an update, a rollback or a person may still need is ever taken.
"""

from __future__ import annotations

import logging
from typing import Any

import docker
from docker.errors import APIError

from daemon.engine import connect
from daemon.update.names import INSTALL_LABEL, is_helper, update_of
from portal.database import Database
from portal.models import Node
from portal.services import leftovers

logger = logging.getLogger(__name__)


def collect_node(database: Database, node_id: str) -> list[str]:
    """Remove what is left over on a node.

    Volumes stay, whatever container they belonged to: only helpers take along what their own image declares.

    Returns:
        The names of the containers removed.

    Raises:
        EngineUnreachable: the node does not answer.
    """
    with database.reading() as session:
        node = session.get(Node, node_id)
        install = leftovers.install_id(session)
    if node is None or install is None:
        return []
    engine = connect(node)
    try:
        return [
            name
            for name, container in _leftovers(engine, database, node_id, install)
            if _remove(engine, name, container)
        ]
    finally:
        engine.close()


def _leftovers(engine: docker.APIClient, database: Database, node_id: str, install: str) -> list[tuple[str, str]]:
    """Names and ids. The engine is asked first: what is made after that belongs to something that is not over."""
    made_by_us = engine.containers(all=True, filters={"label": f"{INSTALL_LABEL}={install}"})
    candidates = [(name, str(container["Id"])) for container in made_by_us for name in _temporary_names(container)]
    with database.reading() as session:
        over = leftovers.updates_over(session, {str(update_of(name)) for name, _ in candidates})
        of_bots = leftovers.containers_of_bots(session, node_id)
    return [
        (name, container) for name, container in candidates if update_of(name) in over and container not in of_bots
    ]


def _temporary_names(container: dict[str, Any]) -> list[str]:
    names = (name.removeprefix("/") for name in container["Names"])
    return [name for name in names if update_of(name)]


def _remove(engine: docker.APIClient, name: str, container: str) -> bool:
    try:
        engine.remove_container(container, force=True, v=is_helper(name))
    except APIError as error:
        if error.status_code not in {404, 409}:  # gone, or somebody is removing it
            logger.warning("could not remove %s: %s", name, error.explanation)
        return False
    logger.info("removed %s, which was left over", name)
    return True
