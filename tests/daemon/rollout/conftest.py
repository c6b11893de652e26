"""Fixtures of the orchestrator's tests."""

import pytest

from portal.database import Database
from tests.support.world import World


@pytest.fixture
def world(database: Database) -> World:
    """Return a fleet with one node and release 1.0.0, without bots."""
    return World(database)
