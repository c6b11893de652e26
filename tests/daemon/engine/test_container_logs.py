"""Reading the log of a container from a stubborn engine: split, endless and incomplete messages."""

from __future__ import annotations

from typing import Any, cast

import docker
import pytest

from daemon.engine import container_logs
from daemon.engine.container_logs import LogLine

AT = "2026-11-30T12:00:00.000000001Z"
LATER = "2026-11-30T12:00:00.000000002Z"


class StubResponse:
    """The answer of the engine, in chunks."""

    def __init__(self, content: bytes, size: int) -> None:
        """Set the content, which is sent in chunks of this size."""
        self._chunks = [content[start : start + size] for start in range(0, len(content), size)]
        self.closed = False

    def iter_content(self, _size: int) -> Any:
        """Yield the chunks."""
        yield from self._chunks

    def raise_for_status(self) -> None:
        """Do nothing: the status is 200."""

    def close(self) -> None:
        """Remember that the connection was closed."""
        self.closed = True


class StubEngine:
    """An engine that sends the last messages of a log."""

    base_url, api_version, timeout = "http://engine", "1.47", 5

    def __init__(self, *messages: bytes, size: int = 7) -> None:
        """Set the messages."""
        self.messages, self.size = messages, size
        self.tails: list[int] = []
        self.responses: list[StubResponse] = []

    def get(self, _url: str, *, params: dict[str, Any], **_options: Any) -> StubResponse:
        """Answer a request for the log."""
        self.tails.append(params["tail"])
        self.responses.append(StubResponse(b"".join(self.messages[-params["tail"] :]), self.size))
        return self.responses[-1]


def message(text: bytes, at: str = AT, stream: int = 1) -> bytes:
    """Return a message as an engine sends it."""
    content = at.encode() + b" " + text
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4) + content


def read(engine: StubEngine, lines: int = 100, max_bytes: int = 10_000, *, tty: bool = False) -> list[LogLine]:
    """Read the log of the stub."""
    found = {"Id": "1", "Config": {"Tty": tty}}
    log = container_logs.read_log(cast("docker.APIClient", engine), found, lines, max_bytes)
    assert all(response.closed for response in engine.responses)
    return log


def test_streams_are_told_apart_and_split_lines_are_joined_without_the_timestamps_between() -> None:
    engine = StubEngine(
        message(b"the sec"),
        message(b"oops\n", stream=2),
        message(b"ret\nnext ", LATER),
        message(b"line\r\n"),
        b"\1\0\0",
    )
    assert read(engine) == [
        LogLine(AT, is_error=True, text="oops"),
        LogLine(AT, is_error=False, text="the secret"),
        LogLine(AT, is_error=False, text="next line"),
    ]


def test_unfinished_and_binary_lines_are_kept() -> None:
    assert [line.text for line in read(StubEngine(message(b"\xff\0a\n"), message(b"no end")))] == [
        "\ufffd\0a",
        "no end",
    ]


def test_terminal_has_one_stream() -> None:
    assert read(StubEngine(b"one\ntwo"), tty=True) == [
        LogLine(None, is_error=False, text="one"),
        LogLine(None, is_error=False, text="two"),
    ]


def test_latest_lines_are_kept_within_the_limits() -> None:
    engine = StubEngine(*(message(f"line {number}\n".encode()) for number in range(100)))
    assert [line.text for line in read(engine, lines=2)] == ["line 98", "line 99"]
    assert [line.text for line in read(engine, lines=100, max_bytes=700)][-1] == "line 99"
    assert sum(len(line.text) for line in read(engine, lines=100, max_bytes=700)) <= 700


def test_fewer_lines_are_requested_while_the_engine_sends_too_much() -> None:
    engine = StubEngine(*(message(b"x" * 5000 + b"\n") for _ in range(100)), message(b"end\n"), size=1000)
    assert [line.text for line in read(engine, max_bytes=1000)] == ["end"]
    assert engine.tails == [100, 10, 1]


@pytest.mark.parametrize("content", [message(b"x" * 100_000), b"\1\0\0\0\xff\xff\xff\xff" + b"x" * 100])
def test_line_without_end_is_not_read(content: bytes) -> None:
    log = read(StubEngine(content, size=1000), max_bytes=1000)
    assert [line.text for line in log] == ["(a line that is too long to be shown)"]
