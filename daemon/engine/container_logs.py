"""Reading of the log of a container, within limits of time and size. Used by the logs of bots.

A bot chooses what it writes: lines without end, binary, sequences for terminals. Whole lines are kept, because a line
whose beginning is missing could show a part of a secret that is no longer recognized.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import create_api_error_from_http_exception

from daemon.engine.client import limit_stream

_READ_SECONDS = 10.0
_CHUNK_BYTES = 64 * 1024
_HEADER_BYTES = 8
"""Each message of a container without a terminal begins with its stream and its length."""
_STDERR = 2
_MAX_MESSAGE_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 64 * 1024
_FACTOR = 8
"""The engine may send this multiple of the wanted bytes. Beyond that, fewer lines are requested."""
_TIMESTAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?")


@dataclass(frozen=True)
class LogLine:
    """One line of a log.

    Attributes:
        at: when it was written, in ISO 8601; None where the engine does not say so.
        is_error: whether it was written to the error output.
        text: the line as the bot wrote it.
    """

    at: str | None
    is_error: bool
    text: str


class _TooMuch(Exception):
    """The engine sent more than it may."""


def read_log(engine: docker.APIClient, found: dict[str, Any], lines: int, max_bytes: int) -> list[LogLine]:
    """Read the latest lines of the log of a container, oldest first.

    Args:
        engine: the node's engine.
        found: the engine's description of the container.
        lines: how many lines at most.
        max_bytes: how many bytes of text at most. Of longer lines, fewer are returned.

    Raises:
        NotFound: the container does not exist.
        APIError: the engine cannot read the log, for example because of its log driver.
        EngineUnreachable: the engine does not answer in time.
    """
    has_terminal = bool(found["Config"].get("Tty"))
    while True:
        try:
            return _read(engine, str(found["Id"]), lines, max_bytes, has_terminal=has_terminal)
        except _TooMuch:
            if lines == 1:
                return [LogLine(None, is_error=True, text="(a line that is too long to be shown)")]
            lines = max(1, lines // 10)


def _read(
    engine: docker.APIClient, container_id: str, lines: int, max_bytes: int, *, has_terminal: bool
) -> list[LogLine]:
    # A terminal has one stream without messages, in which timestamps would be a part of the text.
    options = {"stdout": 1, "stderr": 1, "tail": lines, "timestamps": int(not has_terminal)}
    with limit_stream(_READ_SECONDS, "the reading of a log"):
        response = _request(engine, container_id, options)
        try:
            chunks = _limit(response.iter_content(_CHUNK_BYTES), _FACTOR * max_bytes)
            messages = ((1, chunk) for chunk in chunks) if has_terminal else _split_messages(chunks)
            return _keep_latest(_split_lines(messages), lines, max_bytes)
        finally:
            response.close()


def _request(engine: docker.APIClient, container_id: str, options: dict[str, Any]) -> requests.Response:
    # The library's own method reads everything, or leaves the connection of an unfinished stream open.
    url = f"{engine.base_url}/v{engine.api_version}/containers/{container_id}/logs"
    response = engine.get(url, params=options, stream=True, timeout=engine.timeout)
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise create_api_error_from_http_exception(error) from error
    return response


def _limit(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > max_bytes:
            raise _TooMuch
        yield chunk


def _split_messages(chunks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield stream and content of each message. An incomplete one at the end is left out."""
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEADER_BYTES:
            length = int.from_bytes(buffer[4:_HEADER_BYTES])
            if length > _MAX_MESSAGE_BYTES:
                raise _TooMuch
            end = _HEADER_BYTES + length
            if len(buffer) < end:
                break
            yield buffer[0], buffer[_HEADER_BYTES:end]
            buffer = buffer[end:]


def _split_lines(messages: Iterator[tuple[int, bytes]]) -> Iterator[LogLine]:
    """Join the messages of a line: the engine splits long lines, and gives each part a timestamp."""
    unfinished: dict[int, tuple[str | None, bytes]] = {}
    for stream, message in messages:
        found = _TIMESTAMP.match(message)
        content = message[found.end() :] if found else message
        at, text = unfinished.pop(stream, (found[1].decode() if found else None, b""))
        *complete, rest = (text + content).split(b"\n")
        for line in complete:
            yield _line(stream, at, line)
        if rest:
            unfinished[stream] = (at, rest[: _MAX_LINE_BYTES + 1])
    for stream, (at, text) in unfinished.items():
        yield _line(stream, at, text)


def _line(stream: int, at: str | None, content: bytes) -> LogLine:
    cut = content if len(content) <= _MAX_LINE_BYTES else content[:_MAX_LINE_BYTES]
    return LogLine(at, stream == _STDERR, cut.decode(errors="replace").rstrip("\r"))


def _keep_latest(found: Iterator[LogLine], lines: int, max_bytes: int) -> list[LogLine]:
    kept: deque[LogLine] = deque()
    size = 0
    for line in found:
        kept.append(line)
        size += len(line.text)
        while kept and (len(kept) > lines or size > max_bytes):
            size -= len(kept.popleft().text)
    return list(kept)
