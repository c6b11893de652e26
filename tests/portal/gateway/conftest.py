"""Fixtures of the gateway's tests: a running gateway, two bots, and Bob's browser at the first bot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from redis import Redis

from portal.change_messages import publish_changes
from portal.database import Database
from portal.models import Bot
from portal.settings import Settings
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, LoopThread, RunningGateway, running_bot, sign_in
from tests.support.scene import Scene


@pytest.fixture(scope="module")
def servers() -> Iterator[LoopThread]:
    """Return the thread in which servers run."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def publishing(settings: Settings, database: Database, redis_url: str) -> Iterator[Database]:
    """Return the database of processes that publish their changes."""
    with Redis.from_url(redis_url) as redis:
        publishing = Database(settings.database_url, partial(publish_changes, redis))
        yield publishing
        publishing.dispose()


@pytest.fixture
def gateway(settings: Settings, database: Database, redis_url: str, servers: LoopThread) -> Iterator[RunningGateway]:
    """Return a running gateway."""
    with_redis = replace(settings, redis_url=redis_url, base_url="http://127.0.0.1:8000")
    own = Database(settings.database_url)
    running = RunningGateway(servers, with_redis, own)
    yield running
    running.stop()
    own.dispose()


@pytest.fixture
def bot(servers: LoopThread, database: Database, scene: Scene) -> Iterator[FakeBot]:
    """Return the first bot of the scene, which answers."""
    with running_bot(servers) as bot:
        with database.transaction() as session:
            session.get_one(Bot, scene.bots[0]).address = bot.address
        yield bot


@pytest.fixture
def bob(gateway: RunningGateway, bot: FakeBot, database: Database, cast: Cast, scene: Scene) -> Browser:
    """Return Bob's browser at the first bot."""
    return sign_in(gateway, database, cast.people["bob"], scene.bots[0])
