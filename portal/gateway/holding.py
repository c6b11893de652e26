"""Holding of requests while a bot is being updated. Used by the handler of requests.

The rows of updates decide which bots are out of service. A loop reads them every second, or more often while a bot is
out of service, and at once after a message. When it finds such a bot, new requests wait, streams end, and the loop
records how many requests still run, for which the update waits before it stops the bot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection
from functools import partial

from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable
from portal.gateway.exchanges import SERVICE_RESTART, Exchanges
from portal.gateway.limits import MAX_HELD, MAX_HELD_PER_BOT
from portal.gateway.visit_cache import VisitCache
from portal.models import new_id
from portal.services.gateway import processes

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 1.0
_INTERVAL_WHILE_HOLDING_SECONDS = 0.25
_HEARTBEAT_SECONDS = 3.0
_UNKNOWN_UPDATE = ""


class TooManyHeld(Exception):
    """So many requests wait for this bot, or in total, that no other can wait."""


class Holding:
    """The bots that are out of service, and the requests that wait for them.

    Args:
        threads: access to the database.
        exchanges: the running requests.
        cache: the decisions, which are read again when a bot goes out of service or returns.
    """

    def __init__(self, threads: DatabaseThreads, exchanges: Exchanges, cache: VisitCache) -> None:
        self._threads = threads
        self._exchanges = exchanges
        self._cache = cache
        self._updates: dict[str, str] = {}
        self._released: dict[str, asyncio.Event] = {}
        self._waiting: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._process_id = new_id()
        self._recorded: dict[str, int] = {}
        self._recorded_at = float("-inf")

    def is_held(self, bot_id: str) -> bool:
        """Return whether requests to the bot have to wait."""
        return bot_id in self._updates

    def check_now(self) -> None:
        """Read the rows of updates again at once."""
        self._wake.set()

    async def wait(self, bot_id: str, deadline: float) -> bool:
        """Wait until the bot is in service again.

        Args:
            bot_id: the bot, which is out of service according to a decision or to `is_held`.
            deadline: until when to wait, by the monotonic clock.

        Returns:
            False when the deadline has passed.

        Raises:
            TooManyHeld: too many requests wait already.
        """
        if self._waiting[bot_id] >= MAX_HELD_PER_BOT or self._waiting.total() >= MAX_HELD:
            raise TooManyHeld
        if bot_id not in self._updates:
            # The decision is newer than the last run of the loop, which finds out whether the update still runs.
            self._hold(bot_id, _UNKNOWN_UPDATE)
            self._wake.set()
        self._waiting[bot_id] += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._released[bot_id].wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[bot_id] -= 1
            if not self._waiting[bot_id]:
                del self._waiting[bot_id]
        return True

    async def run(self) -> None:
        """Follow the rows of updates until this task is cancelled."""
        while True:
            self._wake.clear()
            await self.follow()
            interval = _INTERVAL_WHILE_HOLDING_SECONDS if self._updates else _INTERVAL_SECONDS
            try:
                async with asyncio.timeout(interval):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def follow(self) -> None:
        """Read the rows of updates once, and record for which of them requests are held."""
        try:
            await self._follow()
        except DatabaseUnavailable:
            pass  # requests get no decision either; the loop tries again
        except Exception:
            logger.exception("could not follow the updates of bots")

    async def leave(self) -> None:
        """Record that this process ends, so that updates do not wait for it."""
        try:
            await self._threads.write(partial(processes.remove, process_id=self._process_id))
        except DatabaseUnavailable:
            logger.warning("updates wait up to %d s for this process", processes.ALIVE.total_seconds())

    async def _follow(self) -> None:
        running = await self._threads.read(processes.list_updates_out_of_service)
        self._apply({bot_id: update_id for update_id, bot_id in running.items()})
        held = {update_id: self._exchanges.count_of_bot(bot_id) for bot_id, update_id in self._updates.items()}
        if held != self._recorded or time.monotonic() - self._recorded_at > _HEARTBEAT_SECONDS:
            await self._threads.write(partial(processes.record_held, process_id=self._process_id, held=held))
            self._recorded, self._recorded_at = held, time.monotonic()

    def _apply(self, updates: dict[str, str]) -> None:
        begun = {bot_id for bot_id, update_id in updates.items() if self._updates.get(bot_id) != update_id}
        ended = self._updates.keys() - updates.keys()
        for bot_id in begun:
            self._hold(bot_id, updates[bot_id])
        self._release(ended)
        self._exchanges.abort_streams(SERVICE_RESTART, updates)
        if begun or ended:
            self._cache.forget_all(begun | ended)

    def _hold(self, bot_id: str, update_id: str) -> None:
        self._updates[bot_id] = update_id
        self._released.setdefault(bot_id, asyncio.Event())

    def _release(self, bot_ids: Collection[str]) -> None:
        for bot_id in list(bot_ids):
            del self._updates[bot_id]
            self._released.pop(bot_id).set()
