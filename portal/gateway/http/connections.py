"""What the connections of browsers and of bots have in common. Used by both.

A connection sends only as fast as the other side receives, receives only as fast as its bytes are taken, and becomes
one end of a tunnel after the handshake of a WebSocket.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from portal.gateway.limits import BUFFER_BYTES, MAX_FRAMING_BYTES, MAX_FRAMING_FACTOR

UNKNOWN = "unknown"
"""The address of a peer without one."""


class Tunnel(Protocol):
    """Takes the bytes of a connection that no longer speaks HTTP."""

    def feed(self, data: bytes) -> None:
        """Take received bytes."""

    def end(self) -> None:
        """Note that the connection was closed."""


class Connection(asyncio.Protocol):
    """A connection with backpressure in both directions.

    Attributes:
        transport: None before the connection is open and after it was lost.
        is_writing_paused: whether the other side receives too slowly.
        peer: address of the other side.
        must_close: whether it is closed after the current message.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_writing_paused = False
        self.peer = UNKNOWN
        self.must_close = False
        self._is_reading = True
        self._drained: asyncio.Future[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._tunnel: Tunnel | None = None
        self._unread = b""
        """What was received but not interpreted yet."""

    @property
    def is_open(self) -> bool:
        """Whether bytes can be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport and the other side."""
        self.transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        self.peer = address[0] if address else UNKNOWN

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake up who waits, and end the tunnel."""
        self.transport = None
        if self._lingering is not None:
            self._lingering.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the connection was lost"))
            self._drained.exception()  # mark as retrieved, because its waiter may be gone
        if self._tunnel is not None:
            self._tunnel.end()

    def pause_writing(self) -> None:
        """Note that the other side receives too slowly."""
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        """Note that the other side has received enough."""
        self.is_writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            ConnectionResetError: the connection was closed.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the other side has received enough.

        Raises:
            ConnectionResetError: the connection was lost.
        """
        if self.transport is None:
            raise ConnectionResetError("the connection was lost")
        if self.is_writing_paused:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def set_reading(self, is_wanted: bool) -> None:
        """Receive bytes, or leave them to the operating system."""
        if is_wanted is self._is_reading or self.transport is None or self.transport.is_closing():
            return
        self._is_reading = is_wanted
        if is_wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def keep_unread(self, data: bytes) -> None:
        """Keep bytes that cannot be interpreted yet, and receive no more when they are many."""
        self._unread += data
        if len(self._unread) >= BUFFER_BYTES:
            self.set_reading(False)

    def begin_tunnel(self, tunnel: Tunnel) -> None:
        """Pass all bytes on from now on, at first those that were received already."""
        self._tunnel = tunnel
        unread, self._unread = self._unread, b""
        self.set_reading(True)
        if unread:
            tunnel.feed(unread)
        if self.transport is None:
            tunnel.end()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def close(self, linger_seconds: float) -> None:
        """Close the connection when everything was sent, at the latest after some seconds."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            # A peer that reads nothing would otherwise keep the connection open.
            self._lingering = asyncio.get_running_loop().call_later(linger_seconds, self.abort)


def exceeds_framing(received: int, body: int) -> bool:
    """Return whether a peer sends too much besides the body, such as extensions of chunks and trailers.

    Args:
        received: all bytes since the start of the message.
        body: bytes of its body.
    """
    return received > MAX_FRAMING_BYTES + MAX_FRAMING_FACTOR * body
