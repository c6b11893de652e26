"""Fixtures for tests of the member sync."""

from collections.abc import Iterator

import pytest

from portal.database import Database
from tests.daemon.provision.toy_bot import ToyBot, running_toy_bot
from tests.daemon.provision.world import SyncWorld


@pytest.fixture
def toy() -> Iterator[ToyBot]:
    """A toy bot that knows versions and lists members."""
    with running_toy_bot() as bot:
        yield bot


@pytest.fixture
def world(database: Database, toy: ToyBot) -> SyncWorld:
    """An organization whose bot is the toy bot, which Flotilla provisions."""
    return SyncWorld(database, toy)
