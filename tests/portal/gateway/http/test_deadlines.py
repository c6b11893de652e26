"""Deadlines: they are moved, removed and closed, and pass once."""

from __future__ import annotations

import asyncio

from portal.gateway.http.deadlines import Deadline


def test_a_deadline_passes_once_at_its_last_time() -> None:
    async def run() -> list[float]:
        loop, has_passed, times = asyncio.get_running_loop(), asyncio.Event(), list[float]()

        def note() -> None:
            times.append(loop.time() - began)
            has_passed.set()

        deadline = Deadline(note)
        began = loop.time()
        deadline.set(60)
        deadline.set(0.05)  # earlier
        deadline.set(0.2)  # later
        async with asyncio.timeout(10):
            await has_passed.wait()
        await asyncio.sleep(0.1)
        return times

    (seconds,) = asyncio.run(run())
    assert seconds >= 0.2


def test_a_removed_or_closed_deadline_does_not_pass() -> None:
    async def run() -> list[str]:
        has_passed, passed = asyncio.Event(), list[str]()
        removed, closed = Deadline(lambda: passed.append("removed")), Deadline(lambda: passed.append("closed"))
        other = Deadline(has_passed.set)
        for deadline in (removed, closed, other):
            deadline.set(0.05)
        removed.set(None)
        closed.close()
        async with asyncio.timeout(10):
            await has_passed.wait()
        return passed

    assert asyncio.run(run()) == []
