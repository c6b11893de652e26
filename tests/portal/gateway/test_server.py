"""The start of the gateway's process where its port is taken, and its end."""

from __future__ import annotations

import asyncio
import resource
import socket
from dataclasses import replace

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.gateway import limits
from portal.gateway.server import end_tasks, permit_many_connections
from portal.models import GatewayProcess
from portal.settings import Settings
from tests.support.gateway import LoopThread, RunningGateway


@pytest.mark.requests
def test_a_gateway_that_cannot_listen_delays_no_updates(
    settings: Settings, database: Database, redis_url: str, servers: LoopThread
) -> None:
    own = Database(settings.database_url)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        RunningGateway(servers, replace(settings, redis_url=redis_url), own, other.getsockname()[1])
    own.dispose()
    with database.reading() as session:
        assert session.scalars(sa.select(GatewayProcess.id)).all() == []


def test_as_many_connections_are_permitted_as_the_system_permits() -> None:
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        wanted = min(limits.OPEN_FILES, highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted - 1, highest))
        permit_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, highest)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, highest))


def test_tasks_that_drop_a_cancellation_end_too() -> None:
    """The Redis client has done so when the gateway was stopped while the connection was being opened."""

    async def drop_the_first_cancellation() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async def run() -> asyncio.Task[None]:
        task = asyncio.create_task(drop_the_first_cancellation())
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await end_tasks([task])
        return task

    assert asyncio.run(run()).cancelled()
