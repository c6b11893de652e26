"""The body of a request or response on its way between two connections. Used by the connections of both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from portal.gateway.limits import BUFFER_BYTES, MAX_PARTS


class Body:
    """A body that one connection receives while another one sends it on.

    Args:
        on_taken: called when so many bytes were taken that the connection may receive more.

    Attributes:
        received: number of bytes that have arrived.
        is_complete: whether its end has arrived.
    """

    __slots__ = ("_error", "_is_dropped", "_on_taken", "_parts", "_waiter", "_waiting", "is_complete", "received")

    def __init__(self, on_taken: Callable[[], None]) -> None:
        self._on_taken = on_taken
        self._parts: list[bytes] = []
        self._waiting = 0
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_dropped = False
        self.received = 0
        self.is_complete = False

    @property
    def is_full(self) -> bool:
        """Whether no more should be received before bytes were taken."""
        return self._waiting >= BUFFER_BYTES or len(self._parts) >= MAX_PARTS

    @property
    def is_used_up(self) -> bool:
        """Whether it is complete and all of it was taken."""
        return self.is_complete and not self._parts and self._error is None

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self.received += len(data)
        if self._is_dropped:
            return
        self._parts.append(data)
        self._waiting += len(data)
        self._wake()

    def end(self) -> None:
        """Note that the body is complete."""
        self.is_complete = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Let the next `read` raise an error, unless the body is complete."""
        if not self.is_complete and self._error is None:
            self._error = error
            self._wake()

    def take(self) -> bytes:
        """Return what has arrived; empty if nothing has."""
        if not self._parts:
            return b""
        was_full = self.is_full
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        if was_full:
            self._on_taken()
        return data

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; empty at the end.

        Raises:
            Exception: what `fail` was called with.
        """
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self.is_complete:
                return b""
            await self._wait()
        return self.take()

    async def drop(self) -> None:
        """Forget what has arrived and what arrives, and wait for the end."""
        self._is_dropped = True
        self.take()
        while not self.is_complete and self._error is None:
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
