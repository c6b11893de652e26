"""Bodies between two connections: order, end, errors, and how much waits."""

from __future__ import annotations

import asyncio

import pytest

from portal.gateway.http.bodies import Body
from portal.gateway.limits import BUFFER_BYTES


def test_a_body_is_read_in_parts_until_its_end() -> None:
    async def run() -> list[bytes]:
        body = Body(lambda: None)
        body.feed(b"a")
        body.feed(b"b")
        parts = [await body.read()]
        reading = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        body.feed(b"c")
        parts.append(await reading)
        body.end()
        return [*parts, await body.read()]

    assert asyncio.run(run()) == [b"ab", b"c", b""]


def test_a_body_is_used_up_when_it_is_complete_and_was_taken() -> None:
    body = Body(lambda: None)
    body.feed(b"a")
    states = [body.is_used_up]
    body.end()
    states.append(body.is_used_up)
    body.take()
    assert [*states, body.is_used_up] == [False, False, True]


def test_what_arrived_before_an_error_can_be_read() -> None:
    async def run() -> None:
        body = Body(lambda: None)
        body.feed(b"a")
        body.fail(ConnectionResetError())
        assert await body.read() == b"a"
        with pytest.raises(ConnectionResetError):
            await body.read()
        assert not body.is_used_up

    asyncio.run(run())


def test_a_complete_body_cannot_fail() -> None:
    body = Body(lambda: None)
    body.end()
    body.fail(ConnectionResetError())
    assert body.is_used_up


def test_a_full_body_asks_for_more_when_it_was_taken() -> None:
    asked = []
    body = Body(lambda: asked.append(True))
    states = []
    for size in (BUFFER_BYTES - 1, BUFFER_BYTES):
        body.feed(bytes(size))
        states.append(body.is_full)
        assert len(body.take()) == size
        states.append(body.is_full)
    assert states == [False, False, True, False]
    assert asked == [True]


def test_a_dropped_body_keeps_nothing_and_waits_for_its_end() -> None:
    async def run() -> None:
        body = Body(lambda: None)
        reading = asyncio.create_task(body.read())
        await asyncio.sleep(0)
        reading.cancel()  # as the task that sends the body to a bot that has answered early
        dropping = asyncio.create_task(body.drop())
        await asyncio.wait([reading])
        body.feed(bytes(2 * BUFFER_BYTES))
        assert not body.is_full
        body.end()
        async with asyncio.timeout(10):
            await dropping
        assert body.is_used_up
        assert body.received == 2 * BUFFER_BYTES

    asyncio.run(run())
