"""A fleet of rows for the orchestrator."""

import pytest

from portal.database import Database
from tests.support.world import World


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0; no bots yet."""
    return World(database)
