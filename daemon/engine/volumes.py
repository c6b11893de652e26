"""Removing volumes on an engine."""

from __future__ import annotations

import logging

import docker
from docker.errors import APIError

logger = logging.getLogger(__name__)


def remove(engine: docker.APIClient, name: str) -> bool:
    """Remove a volume, if it exists. Return False when a container uses it and it stays.

    Raises:
        APIError: the engine refused for another reason.
    """
    try:
        engine.remove_volume(name)
    except APIError as error:
        if error.status_code == 409:
            logger.warning("volume %s is used by another container and stays", name)
            return False
        if error.status_code != 404:
            raise
    return True
