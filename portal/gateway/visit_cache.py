"""Visits by session token, kept for two seconds. Requests that miss at the same time share one query.

Used by the handler of requests and by the revocation of open ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial

from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable
from portal.gateway.limits import DATABASE_SECONDS, DECISION_SECONDS
from portal.models import utcnow
from portal.services.gateway import visits
from portal.services.gateway.visits import Visit

logger = logging.getLogger(__name__)

_BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class CachedVisit:
    """A visit as it was read, or None where the session is not valid.

    Attributes:
        visit: the visit.
        read_at: when the query began, by the monotonic clock.
    """

    visit: Visit | None
    read_at: float

    def is_fresh(self) -> bool:
        """Return whether a decision may still rely on it."""
        return time.monotonic() - self.read_at < DECISION_SECONDS


class VisitCache:
    """Visits by the hash of their session token.

    Args:
        threads: access to the database.
    """

    def __init__(self, threads: DatabaseThreads) -> None:
        self._threads = threads
        self._entries: dict[str, CachedVisit] = {}
        self._waiting: dict[str, asyncio.Future[CachedVisit]] = {}
        self._loader: asyncio.Task[None] | None = None
        self._changed_since_reads: list[set[str]] = []
        """What has changed since each read that still runs has begun: ids of rows, and hashes of tokens."""

    async def find(self, token_hash: str) -> CachedVisit:
        """Return the visit of a session.

        Raises:
            DatabaseUnavailable: it is not known, and the database does not answer.
        """
        entry = self._entries.get(token_hash)
        if entry is not None and entry.is_fresh():
            return entry
        future = self._waiting.get(token_hash)
        if future is None:
            future = self._waiting[token_hash] = asyncio.get_running_loop().create_future()
            if self._loader is None or self._loader.done():
                self._loader = asyncio.create_task(self._load_waiting())
        # One waiter that gives up must not cancel the others.
        return await asyncio.shield(future)

    async def refresh(self, token_hashes: Collection[str]) -> dict[str, CachedVisit]:
        """Read these visits again.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        pending = sorted(token_hashes)
        for start in range(0, len(pending), _BATCH_SIZE):
            await self._read(pending[start : start + _BATCH_SIZE])
        return {key: self._entries[key] for key in pending if key in self._entries}

    def forget(self, token_hash: str) -> None:
        """Read the visit again when it is needed next."""
        self._note_change({token_hash})
        self._entries.pop(token_hash, None)

    def forget_all(self, ids: Collection[str]) -> None:
        """Read the visits that concern these users, bots or organizations again when they are needed next."""
        self._note_change(ids)
        concerned = [key for key, entry in self._entries.items() if entry.visit and entry.visit.concerns(ids)]
        for key in concerned:
            del self._entries[key]

    def drop_old(self) -> None:
        """Free the memory of entries that are too old."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry.is_fresh()}

    async def _load_waiting(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:_BATCH_SIZE]
            batch = {key: self._waiting.pop(key) for key in keys}
            try:
                found = await self._read(keys)
            except DatabaseUnavailable as error:
                _fail(batch.values(), error)
            except Exception as error:
                logger.exception("could not read who visits which bot")
                _fail(batch.values(), error)
            else:
                for key, future in batch.items():
                    future.set_result(found[key])

    async def _read(self, keys: list[str]) -> dict[str, CachedVisit]:
        """Read visits, until they are fresh and none of them has changed since the query began.

        Raises:
            DatabaseUnavailable: the database does not answer, or too slowly for a decision.
        """
        first = time.monotonic()
        while True:
            began = time.monotonic()
            found, is_unchanged = await self._read_once(keys)
            now = time.monotonic()
            is_fresh = now - began < DECISION_SECONDS
            # If they change all the time, a fresh decision has to do.
            if is_fresh and (is_unchanged or now - first > DECISION_SECONDS):
                entries = {key: CachedVisit(found.get(key), began) for key in keys}
                self._entries.update(entries)
                return entries
            if now - first > DATABASE_SECONDS:
                logger.warning("the database answers too slowly: %.1f s", now - began)
                raise DatabaseUnavailable

    async def _read_once(self, keys: list[str]) -> tuple[dict[str, Visit], bool]:
        """Read visits, and tell whether none of them has changed since the query began.

        Changes of other visits do not count: where much changes, every read would otherwise be repeated.
        """
        changed: set[str] = set()
        self._changed_since_reads.append(changed)
        try:
            found = await self._threads.read(partial(visits.load_visits, token_hashes=keys, now=utcnow()))
        finally:
            self._changed_since_reads = [other for other in self._changed_since_reads if other is not changed]
        is_changed = not changed.isdisjoint(keys) or any(visit.concerns(changed) for visit in found.values())
        return found, not is_changed

    def _note_change(self, ids: Collection[str]) -> None:
        for changed in self._changed_since_reads:
            changed.update(ids)


def _fail(futures: Iterable[asyncio.Future[CachedVisit]], error: Exception) -> None:
    for future in futures:
        future.set_exception(error)
        future.exception()  # mark as retrieved, because its waiter may be gone
