"""Revocation: ends running requests and sockets of people who lost the right. Used by the gateway's process.

A loop confirms the decisions about everything that runs, at once after a message and otherwise every two seconds. If
the database does not answer, nothing can be confirmed, and everything ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from portal.gateway.database_threads import DatabaseUnavailable
from portal.gateway.exchanges import POLICY_VIOLATION, Exchange, Exchanges
from portal.gateway.limits import DECISION_SECONDS, REVOCATION_SECONDS
from portal.gateway.visit_cache import CachedVisit, VisitCache
from portal.rules.bot_access import Access, decide, has_lost_rights

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 0.5
_MAY_CONTINUE = frozenset({Access.ENTER, Access.UPDATING})
"""A request may still run while an update waits for its end."""


class Revocation:
    """Confirms the decisions about running exchanges.

    Args:
        exchanges: what runs.
        cache: reads the decisions.
    """

    def __init__(self, exchanges: Exchanges, cache: VisitCache) -> None:
        self._exchanges = exchanges
        self._cache = cache
        self._wake = asyncio.Event()

    def recheck(self, ids: Collection[str]) -> None:
        """Confirm at once what concerns these users, organizations or bots."""
        for exchange in self._exchanges:
            if exchange.visit.concerns(ids):
                exchange.doubt()
                self._wake.set()

    async def run(self) -> None:
        """Confirm decisions, and end what is not confirmed, until this task is cancelled."""
        # Side by side: a database that hangs delays the confirmations, but not the end.
        await asyncio.gather(self._keep_confirming(), self._keep_aborting())

    async def _keep_confirming(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._confirm_old()
            except Exception:
                logger.exception("could not confirm the access of running requests")
            try:
                async with asyncio.timeout(_INTERVAL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _keep_aborting(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            self._abort_unconfirmed()
            self._cache.drop_old()

    async def _confirm_old(self) -> None:
        old = [exchange for exchange in self._exchanges if exchange.is_older_than(DECISION_SECONDS)]
        if not old:
            return
        try:
            found = await self._cache.refresh({exchange.token_hash for exchange in old})
        except DatabaseUnavailable:
            return
        for exchange in old:
            if exchange.token_hash in found:
                _confirm_or_abort(exchange, found[exchange.token_hash])

    def _abort_unconfirmed(self) -> None:
        for exchange in self._exchanges:
            if exchange.is_older_than(REVOCATION_SECONDS):
                exchange.abort(POLICY_VIOLATION)


def _confirm_or_abort(exchange: Exchange, entry: CachedVisit) -> None:
    visit = entry.visit
    # The bot may have confirmed a demotion since the last look. It still serves the exchange with the former rights.
    is_admitted = visit is not None and decide(visit.facts) in _MAY_CONTINUE
    if visit is not None and is_admitted and not has_lost_rights(exchange.visit.facts, visit.facts):
        exchange.confirm(visit, entry.read_at)
    else:
        exchange.abort(POLICY_VIOLATION)
