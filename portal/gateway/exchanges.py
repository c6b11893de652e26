"""The requests and sockets that run now: who, at which bot, how to end them. Used by the gateway's modules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from portal.gateway.limits import DECISION_SECONDS, REVOCATION_SECONDS
from portal.services.gateway.visits import Visit

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012
"""Close codes of WebSockets, which tell the browser why a socket ended."""


class Exchange:
    """One request that is forwarded to a bot, with its response, or one socket.

    Args:
        token_hash: the session.
        visit: the person and the bot.
        confirmed_at: when the decision about it was read, by the monotonic clock.
        abort: ends it at once; a WebSocket with the given close code.
    """

    def __init__(self, token_hash: str, visit: Visit, confirmed_at: float, abort: Callable[[int], None]) -> None:
        self.token_hash = token_hash
        self.visit = visit
        self.address = visit.address or ""
        """`host:port` of the bot. Visits that are read later may have none."""
        self.confirmed_at = confirmed_at
        self.abort = abort
        self.is_stream = False
        """Whether it does not end without a cause: a socket, or a stream of events. Clients open it again."""

    def confirm(self, visit: Visit, read_at: float) -> None:
        """Record that the person may continue."""
        self.visit, self.confirmed_at = visit, read_at

    def doubt(self) -> None:
        """Make the decision old enough to be confirmed now, but not so old that the exchange ends before."""
        doubtful = (DECISION_SECONDS + REVOCATION_SECONDS) / 2
        self.confirmed_at = min(self.confirmed_at, time.monotonic() - doubtful)

    def is_older_than(self, seconds: float) -> bool:
        """Return whether the decision about it was read longer ago than this."""
        return time.monotonic() - self.confirmed_at > seconds


class Exchanges:
    """All running exchanges of this process."""

    def __init__(self) -> None:
        self._by_bot: dict[str, set[Exchange]] = defaultdict(set)
        self._by_user: dict[str, int] = defaultdict(int)

    def __iter__(self) -> Iterator[Exchange]:
        return iter([exchange for group in self._by_bot.values() for exchange in group])

    @contextmanager
    def running(self, exchange: Exchange) -> Iterator[None]:
        """Count an exchange for the duration of a `with` block."""
        bot_id, user_id = exchange.visit.bot_id, exchange.visit.user_id
        self._by_bot[bot_id].add(exchange)
        self._by_user[user_id] += 1
        try:
            yield
        finally:
            self._by_bot[bot_id].remove(exchange)
            self._by_user[user_id] -= 1
            if not self._by_bot[bot_id]:
                del self._by_bot[bot_id]
            if not self._by_user[user_id]:
                del self._by_user[user_id]

    def count_of_bot(self, bot_id: str) -> int:
        """Return how many exchanges of a bot run."""
        return len(self._by_bot.get(bot_id, ()))

    def count_of_user(self, user_id: str) -> int:
        """Return how many exchanges of a user run."""
        return self._by_user.get(user_id, 0)

    def abort_streams(self, code: int, bot_ids: Collection[str] | None = None) -> None:
        """End the streams of some bots, or of all bots, with a close code."""
        for exchange in self:
            if exchange.is_stream and (bot_ids is None or exchange.visit.bot_id in bot_ids):
                exchange.abort(code)
