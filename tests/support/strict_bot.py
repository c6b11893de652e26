"""A bot that accepts HTTP in its strictest form only, and records everything else. Used by attacks on the gateway.

What a tolerant server would accept in two ways is a violation here: line ends other than CRLF, folded lines, spaces
around names, two lengths, unusual sizes of chunks, trailers, bytes after the end of a request.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader

from tests.support.gateway import SeenRequest

_REQUEST_LINE = re.compile(r"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(r"([A-Za-z0-9-]+): ([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,15}")
_CHUNK_SIZE = re.compile(rb"0|[1-9a-fA-F][0-9a-fA-F]{0,7}")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class Violation(Exception):
    """Received bytes are not HTTP in its strictest form."""


@dataclass
class StrictBot:
    """A bot that answers 200 to everything.

    Attributes:
        port: where it listens.
        seen: the requests that it has received.
        violations: what was wrong with received bytes.
    """

    port: int
    seen: list[SeenRequest] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of a connection until it ends."""
        with connection, connection.makefile("rb") as stream, suppress(OSError):
            try:
                while head := _read_head(stream):
                    request = _parse_head(head)
                    self.seen.append(request)
                    _read_body(stream, request)
                    connection.sendall(_HEAD if request.method == "HEAD" else _HEAD + b"ok")
            except Violation as violation:
                self.violations.append(str(violation))


@contextmanager
def running_strict_bot() -> Iterator[StrictBot]:
    """Run a strict bot for the duration of a `with` block."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        bot = StrictBot(listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=bot.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        yield bot
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _read_head(stream: BufferedReader) -> bytes:
    """Return the lines until the empty one; nothing at the end of the connection."""
    lines = b""
    while (line := stream.readline(65536)) != b"\r\n":
        lines += line
        if not line.endswith(b"\r\n"):
            if lines:
                raise Violation(f"the end of the line {line!r}")
            return b""
    return lines


def _parse_head(head: bytes) -> SeenRequest:
    first, *lines = head.decode("latin-1").removesuffix("\r\n").split("\r\n")
    request_line, fields = _REQUEST_LINE.fullmatch(first), [_FIELD.fullmatch(line) for line in lines]
    if request_line is None or not all(fields):
        raise Violation(f"the head {head!r}")
    headers = [(match[1], match[2]) for match in fields if match]
    names = [name.lower() for name, _ in headers]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise Violation(f"several headers {duplicates}")
    return SeenRequest(request_line[1], request_line[2], headers)


def _read_body(stream: BufferedReader, request: SeenRequest) -> None:
    lengths, codings = request.values("content-length"), request.values("transfer-encoding")
    if codings:
        if codings != ["chunked"] or lengths:
            raise Violation(f"the codings {codings} and the lengths {lengths}")
        while size := _read_chunk_size(stream):
            if stream.read(size + 2)[size:] not in {b"\r\n", b""}:
                raise Violation("the end of a chunk")
        if stream.readline(65536) not in {b"\r\n", b""}:
            raise Violation("a trailer")
    elif lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise Violation(f"the length {lengths[0]!r}")
        stream.read(int(lengths[0]))


def _read_chunk_size(stream: BufferedReader) -> int:
    """Return the size of the next chunk; 0 for the last one, and if the gateway gives up the request."""
    line = stream.readline(65536)
    if line and not _CHUNK_SIZE.fullmatch(line.removesuffix(b"\r\n")):
        raise Violation(f"the size of a chunk {line!r}")
    return int(line or b"0", 16)
