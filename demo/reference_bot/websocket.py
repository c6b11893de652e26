"""A WebSocket that sends back what it receives (RFC 6455). Used by the bot's pages at `/ws`."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedIOBase

LARGEST_MESSAGE = 1024 * 1024
"""Largest number of bytes in a message."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, INVALID_TEXT, TOO_BIG = 1000, 1001, 1002, 1005, 1007, 1009
_CLOSE_SECONDS = 1
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_value(key: str) -> str:
    """Return the value of `Sec-WebSocket-Accept` for the client's `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT_SUFFIX, usedforsecurity=False).digest()).decode()


class Violation(Exception):
    """The client broke the protocol.

    Attributes:
        code: the close code that tells the client.
    """

    def __init__(self, code: int) -> None:
        """Remember the close code."""
        super().__init__(f"close code {code}")
        self.code = code


@dataclass(frozen=True)
class _Frame:
    final: bool
    opcode: int
    payload: bytes


class WebSocket:
    """The server's side of a connection after the handshake."""

    def __init__(self, reader: BufferedIOBase, connection: socket.socket) -> None:
        """Read from `reader`, which may have buffered bytes of `connection`, and write to `connection`."""
        self._reader = reader
        self._connection = connection
        self._sending = threading.Lock()
        self._closed = False

    def echo(self) -> None:
        """Send back all messages until the client closes, disappears or breaks the protocol."""
        try:
            while (message := self._read_message()) is not None:
                self._send(*message)
        except Violation as violation:
            self._send_close(violation.code)
        except (OSError, EOFError):
            return

    def close(self) -> None:
        """Tell the client that the bot stops, and end the connection; called from another thread.

        Waits only briefly for a message that is being sent: a client that does not read it gets no close frame.
        """
        if self._sending.acquire(timeout=_CLOSE_SECONDS):
            try:
                if not self._closed:
                    self._closed = True
                    with suppress(OSError):
                        self._connection.send(_encode(CLOSE, struct.pack("!H", GOING_AWAY)), socket.MSG_DONTWAIT)
            finally:
                self._sending.release()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _send_close(self, code: int) -> None:
        with suppress(OSError):
            self._send(CLOSE, b"" if code == NO_STATUS else struct.pack("!H", code))

    def _read_message(self) -> tuple[int, bytes] | None:
        """Return opcode and payload of the next message, or None after a close frame. Answers pings."""
        opcode, parts, size = CONTINUATION, [], 0
        while True:
            frame = self._read_frame(LARGEST_MESSAGE - size)
            if frame.opcode >= CLOSE:
                if not self._answer_control_frame(frame):
                    return None
                continue
            # The first frame of a message has an opcode, and all others have none.
            if (frame.opcode == CONTINUATION) == (opcode == CONTINUATION):
                raise Violation(PROTOCOL_ERROR)
            opcode = opcode or frame.opcode
            parts.append(frame.payload)
            size += len(frame.payload)
            if frame.final:
                message = b"".join(parts)
                if opcode == TEXT:
                    _check_text(message)
                return opcode, message

    def _read_frame(self, largest: int) -> _Frame:
        first, second = self._read(2)
        final, opcode, length = bool(first & 0x80), first & 0x0F, second & 0x7F
        is_control = opcode >= CLOSE
        known = opcode in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}
        # Reserved bits must be zero, clients must mask, and control frames are short and whole.
        if first & 0x70 or not second & 0x80 or not known or (is_control and (length > 125 or not final)):
            raise Violation(PROTOCOL_ERROR)
        if length == 126:
            (length,) = struct.unpack("!H", self._read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._read(8))
        if not is_control and length > largest:
            raise Violation(TOO_BIG)
        return _Frame(final, opcode, _unmask(self._read(4), self._read(length)))

    def _answer_control_frame(self, frame: _Frame) -> bool:
        """Answer a ping or a close frame, and return whether the connection goes on."""
        if frame.opcode == PING:
            self._send(PONG, frame.payload)
        if frame.opcode != CLOSE:
            return True
        self._send_close(_read_close_code(frame.payload))
        return False

    def _read(self, size: int) -> bytes:
        data = self._reader.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        with self._sending:
            # Nothing may follow a close frame.
            if self._closed:
                return
            self._closed = opcode == CLOSE
            self._connection.sendall(_encode(opcode, payload))


def _encode(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        header = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 65536:
        header = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        header = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return header + payload


def _unmask(mask: bytes, payload: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))


def _check_text(message: bytes) -> None:
    try:
        message.decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_TEXT) from None


def _read_close_code(payload: bytes) -> int:
    """Return the code to answer a close frame with."""
    if not payload:
        return NO_STATUS
    if len(payload) == 1:
        raise Violation(PROTOCOL_ERROR)
    _check_text(payload[2:])
    code: int = struct.unpack("!H", payload[:2])[0]
    if code in {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}:
        return code
    raise Violation(PROTOCOL_ERROR)
