"""Visits are kept for two seconds after their query began, however long the query took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy.orm import Session

from portal.gateway import visit_cache
from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable
from portal.gateway.visit_cache import VisitCache
from portal.rules.bot_access import AccessFacts
from portal.rules.roles import SyncRole
from portal.services.gateway.visits import Visit

pytestmark = pytest.mark.slow


VISIT = Visit(
    facts=AccessFacts(role=SyncRole.MEMBER),
    subdomain="acme",
    bot_id="bot",
    bot_name="Acme",
    org_id="org",
    address=None,
    header_prefix="x-platform-user",
    user_id="user",
    email="bob@example.com",
    name="Bob",
)


class SlowThreads:
    """Access to a database that answers after a while, and finds one visit."""

    def __init__(self, *seconds: float) -> None:
        """Set how long each answer takes; the last one holds for all further answers."""
        self._seconds = list(seconds)
        self.reads = 0
        self.on_read: Callable[[], None] = lambda: None

    async def read(self, _query: Callable[[Session], Any]) -> dict[str, Any]:
        """Answer."""
        self.reads += 1
        self.on_read()
        await asyncio.sleep(self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0])
        return {"a": VISIT}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the limits."""
    monkeypatch.setattr(visit_cache, "DECISION_SECONDS", 0.4)
    monkeypatch.setattr(visit_cache, "DATABASE_SECONDS", 1.5)


def find(threads: SlowThreads) -> None:
    """Look a visit up in a new cache."""

    async def look_up() -> None:
        assert (await VisitCache(cast("DatabaseThreads", threads)).find("a")).is_fresh()

    asyncio.run(look_up())


def test_an_answer_that_comes_too_late_for_a_decision_is_asked_for_again() -> None:
    threads = SlowThreads(0.5, 0.5, 0.01)
    find(threads)
    assert threads.reads >= 3


def test_a_database_that_is_always_too_slow_is_unavailable() -> None:
    threads = SlowThreads(0.5)
    with pytest.raises(DatabaseUnavailable):
        find(threads)
    assert threads.reads > 1


def test_a_change_during_the_query_is_not_missed() -> None:
    async def look_up() -> int:
        threads = SlowThreads(0.01)
        cache = VisitCache(cast("DatabaseThreads", threads))
        changes = [{"user"}, {"bot", "other"}, {"org"}]
        threads.on_read = lambda: cache.forget_all(changes.pop()) if changes else None
        await cache.find("a")
        return threads.reads

    assert asyncio.run(look_up()) == 4


def test_a_session_that_is_forgotten_during_the_query_is_read_again() -> None:
    async def look_up() -> int:
        threads = SlowThreads(0.01)
        cache = VisitCache(cast("DatabaseThreads", threads))
        forgotten = ["b", "a", "a"]
        threads.on_read = lambda: cache.forget(forgotten.pop()) if forgotten else None
        await cache.find("a")
        return threads.reads

    assert asyncio.run(look_up()) == 3


def test_changes_of_others_do_not_delay_a_decision() -> None:
    async def look_up() -> int:
        threads = SlowThreads(0.02)
        cache = VisitCache(cast("DatabaseThreads", threads))
        threads.on_read = lambda: cache.forget_all({"other user", "other bot"})
        await cache.find("a")
        return threads.reads

    assert asyncio.run(look_up()) == 1


def test_changes_all_the_time_do_not_stop_decisions() -> None:
    async def look_up() -> bool:
        threads = SlowThreads(0.02)
        cache = VisitCache(cast("DatabaseThreads", threads))
        threads.on_read = lambda: cache.forget_all({"user"})
        return (await cache.find("a")).is_fresh()

    assert asyncio.run(look_up())
