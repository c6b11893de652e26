"""Redis stands still or is shut down: revoked access ends within the limit, by the database alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from portal.change_messages import publish_changes
from portal.database import Database
from portal.queue import connect
from portal.settings import Settings
from tests.portal.gateway.test_revocation import LIMIT_SECONDS, Apply, apply, open_streams, remove_member
from tests.support.gateway import Browser, FakeBot
from tests.support.missing import required_service
from tests.support.redis import running_redis

pytestmark = [pytest.mark.requests, pytest.mark.slow]
__all__ = ["apply"]


class StoppableRedis:
    """A Redis of one test, which may stop it.

    Attributes:
        url: of the server.
        shut_down: ends the server.
    """

    def __init__(self, url: str, shut_down: Callable[[], None]) -> None:
        """Remember the process."""
        self.url, self.shut_down = url, shut_down
        with Redis.from_url(url) as redis:
            self._process = int(redis.info()["process_id"])

    def freeze(self) -> None:
        """Let the server stand still: it keeps its connections and answers nothing."""
        os.kill(self._process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server continue if it stands still."""
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGCONT)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[StoppableRedis]:
    """Return a Redis of this test."""
    with ExitStack() as stack:
        redis = StoppableRedis(stack.enter_context(required_service(running_redis(tmp_path / "redis"))), stack.close)
        yield redis
        redis.thaw()


@pytest.fixture
def redis_url(redis: StoppableRedis) -> str:
    """Return the URL of the Redis of this test, which the gateway uses."""
    return redis.url


@pytest.fixture
def publishing(redis: StoppableRedis, settings: Settings) -> Iterator[Database]:
    """Return the database of processes that publish their changes with the time limits of the portal."""
    with closing(connect(redis.url)) as client:
        publishing = Database(settings.database_url, partial(publish_changes, client))
        yield publishing
        publishing.dispose()


@pytest.fixture(params=["freeze", "shut_down"])
def stop(request: pytest.FixtureRequest, redis: StoppableRedis) -> Callable[[], None]:
    """Return the function that stops Redis."""
    stop: Callable[[], None] = getattr(redis, request.param)
    return stop


def test_access_ends_within_the_limit_after_redis_has_stopped(
    bob: Browser, bot: FakeBot, stop: Callable[[], None], publishing: Database, apply: Apply
) -> None:
    with open_streams(bob, bot) as wait_for_end:
        stop()
        began = time.monotonic()
        apply(publishing, remove_member)
        code, _ = wait_for_end()
        assert code == 1008
        assert time.monotonic() - began < LIMIT_SECONDS
        assert bob.read("/", headers={"Accept": "*/*"})[0] == 404
