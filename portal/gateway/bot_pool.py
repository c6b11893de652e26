"""Connections to bots: opened when they are needed, kept for a few seconds. Used by the client for bots."""

from __future__ import annotations

import asyncio

from portal.gateway import limits
from portal.gateway.bot_connection import BotConnection
from portal.gateway.bot_errors import BotUnreachable

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
        connections.users += 1
        try:
            return await connections.take()
        except (TimeoutError, OSError, ValueError) as error:
            self._leave(connections)
            raise BotUnreachable(was_sent=False) from error
        except asyncio.CancelledError:
            self._leave(connections)
            raise

    def give_back(self, connection: BotConnection) -> None:
        """Keep the connection for another request."""
        connections = self._by_address[connection.address]
        connection.keep()
        connections.idle[connection] = None
        connections.free.release()
        self._leave(connections)

    def close(self, connection: BotConnection) -> None:
        """Close the connection. The bot has a second to read what was already sent."""
        connections = self._by_address[connection.address]
        connection.close(_LINGER_SECONDS)
        connections.free.release()
        self._leave(connections)

    def close_idle(self) -> None:
        """Close the connections that no request uses."""
        for connections in self._by_address.values():
            for connection in connections.idle:
                connection.abort()

    def _leave(self, connections: _Connections) -> None:
        connections.users -= 1
        if not connections.users and not connections.idle:
            del self._by_address[connections.address]


class _Connections:
    """The connections to one address.

    Args:
        address: `host:port`.

    Attributes:
        free: counts how many more connections requests may use.
        idle: those that no request uses, in the order of their use.
        users: number of requests that use a connection or wait for one.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.free = asyncio.Semaphore(limits.CONNECTIONS_PER_BOT)
        self.idle: dict[BotConnection, None] = {}
        self.users = 0

    async def take(self) -> BotConnection:
        """Return a connection.

        Raises:
            TimeoutError, OSError, ValueError: there is none in time.
        """
        if not self.free.locked():
            await self.free.acquire()  # at once
            connection = self._take_idle()
            if connection is not None:
                return connection
            self.free.release()
        async with asyncio.timeout(limits.CONNECT_SECONDS):
            await self.free.acquire()
            try:
                return self._take_idle() or await self._open()
            except BaseException:
                self.free.release()
                raise

    def _take_idle(self) -> BotConnection | None:
        """Return the connection that was used last, because bots close the others first."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.is_open:
                return connection
        return None

    async def _open(self) -> BotConnection:
        host, _, port = self.address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: BotConnection(self.address, self._forget), host.strip("[]"), int(port)
        )
        return connection

    def _forget(self, connection: BotConnection) -> None:
        self.idle.pop(connection, None)
