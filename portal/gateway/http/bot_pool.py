"""Connections to bots: opened when they are needed, kept for a few seconds. Used by the client for bots."""

from __future__ import annotations

import asyncio
from collections import deque

from portal.gateway import limits
from portal.gateway.http.bot_connection import BotConnection
from portal.gateway.http.bot_errors import BotUnreachable

_LINGER_SECONDS = 1.0


class BotPool:
    """Connections by the address to which they lead."""

    def __init__(self) -> None:
        self._by_address: dict[str, _Connections] = {}

    async def take(self, address: str) -> BotConnection:
        """Return an open connection, which the caller gives back or closes.

        Raises:
            BotUnreachable: there is none in time.
        """
        connections = self._by_address.get(address)
        if connections is None:
            connections = self._by_address[address] = _Connections(address)
        connection = connections.take_idle()
        if connection is not None:
            return connection
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                return await connections.open()
        except (TimeoutError, OSError, ValueError) as error:
            raise BotUnreachable(was_sent=False) from error
        finally:
            self._forget_unused(connections)

    def give_back(self, connection: BotConnection) -> None:
        """Keep the connection for another request."""
        connection.keep()
        self._by_address[connection.address].give_back(connection)

    def close(self, connection: BotConnection) -> None:
        """Close the connection. The bot has a second to read what was already sent."""
        connection.close(_LINGER_SECONDS)
        connections = self._by_address[connection.address]
        connections.free()
        self._forget_unused(connections)

    def close_idle(self) -> None:
        """Close the connections that no request uses."""
        for connections in self._by_address.values():
            for connection in connections.idle:
                connection.abort()

    def _forget_unused(self, connections: _Connections) -> None:
        if connections.is_unused:
            self._by_address.pop(connections.address, None)


class _Connections:
    """The connections to one address.

    Args:
        address: `host:port`.

    Attributes:
        idle: those that no request uses, in the order of their use.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.idle: dict[BotConnection, None] = {}
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_unused(self) -> bool:
        """Whether there are no connections, and no request waits for one."""
        return not (self._used or self.idle or self._waiting)

    def take_idle(self) -> BotConnection | None:
        """Return the connection that was used last, because bots close the others first; None if there is none."""
        connection = self._pop_idle() if self._used < limits.CONNECTIONS_PER_BOT else None
        if connection is not None:
            self._used += 1
        return connection

    async def open(self) -> BotConnection:
        """Open a connection as soon as the number of connections permits it, or return one that became idle.

        Raises:
            OSError, ValueError: the bot does not accept it.
        """
        if self._used < limits.CONNECTIONS_PER_BOT:
            self._used += 1
        else:
            await self._wait()
        try:
            return self._pop_idle() or await self._connect()
        except BaseException:
            self.free()
            raise

    def give_back(self, connection: BotConnection) -> None:
        """Keep a connection that a request has used."""
        self.idle[connection] = None
        self.free()

    def free(self) -> None:
        """Let another request have a connection, at first the one that waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)  # it counts in place of this one
                return
        self._used -= 1

    def _pop_idle(self) -> BotConnection | None:
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.is_open and not connection.has_arrivals:
                return connection
            connection.abort()
        return None

    async def _wait(self) -> None:
        """Wait until another request passes its place on."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self.free()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    async def _connect(self) -> BotConnection:
        host, _, port = self.address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: BotConnection(self.address, self._forget), host.strip("[]"), int(port)
        )
        return connection

    def _forget(self, connection: BotConnection) -> None:
        self.idle.pop(connection, None)
