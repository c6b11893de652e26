"""The server for browsers: listens, and lets running requests end when the process stops. Used by the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portal.gateway.http.browser_connection import BrowserConnection, Handle
from portal.gateway.limits import SHUTDOWN_SECONDS

_BACKLOG = 1024


@asynccontextmanager
async def listening(handle: Handle, address: str, port: int) -> AsyncIterator[None]:
    """Accept connections for the duration of a `with` block. Several processes may share the port.

    Args:
        handle: answers a request.
        address: where to listen.
        port: the port.
    """
    connections: set[BrowserConnection] = set()

    def accept() -> BrowserConnection:
        connection = BrowserConnection(handle, connections.discard)
        connections.add(connection)
        return connection

    loop = asyncio.get_running_loop()
    server = await loop.create_server(accept, address, port, backlog=_BACKLOG, reuse_port=True)
    try:
        yield
    finally:
        server.close()
        await _end(connections)


async def _end(connections: set[BrowserConnection]) -> None:
    """Close connections as soon as their current response was sent, at the latest after some seconds."""
    for connection in list(connections):
        connection.end_when_idle()
    closing = [asyncio.create_task(connection.wait_until_closed()) for connection in connections]
    if closing:
        await asyncio.wait(closing, timeout=SHUTDOWN_SECONDS)
    for connection in list(connections):
        connection.abort()
    if closing:
        await asyncio.wait(closing)
