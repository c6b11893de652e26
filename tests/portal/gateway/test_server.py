"""The end of the gateway's process."""

from __future__ import annotations

import asyncio

from portal.gateway.server import end_tasks


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
