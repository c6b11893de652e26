"""Calls to an engine that sends one byte at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from daemon.engine import client as engine_module
from daemon.engine.client import NEWEST_API, EngineUnreachable, open_engine, pull
from daemon.registry.changelog_reader import read_changelog
from portal.models.node import Node
from tests.support.slow_peers import FILLER, Answer, http_answer, slow_server

# Each test waits until a deadline of a second has passed.
pytestmark = pytest.mark.slow

VERSION = Answer(http_answer(b'{"ApiVersion": "%s"}' % NEWEST_API.encode()))
SLOW_HEADERS = Answer(b"HTTP/1.1 204 No Content\r\nX-Filler: ", FILLER + b"\r\n\r\n")
SLOW_BODY = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", FILLER)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
IMAGE = f"registry.test/bot@sha256:{'0' * 64}"


def chunk(data: bytes) -> bytes:
    """Return a chunk of a stream."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def node_at(url: str) -> Node:
    """Return a node whose engine is at this URL."""
    return Node(name="one", docker_url=url, snapshot_dir="/srv")


@pytest.fixture(params=["tcp", "unix"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Answer], AbstractContextManager[str]]:
    """Return a function that runs an engine, which answers `/version` at once and everything else like this."""

    @contextmanager
    def run(others: Answer) -> Iterator[str]:
        def answer(call: bytes) -> Answer:
            return VERSION if b"/version" in call.partition(b"\r\n")[0] else others

        with slow_server(answer, unix_socket=tmp_path / "engine" if request.param == "unix" else None) as address:
            yield f"{request.param}://{address}"

    return run


Serve = Callable[[Answer], AbstractContextManager[str]]


def test_slow_first_answer_exceeds_the_deadline_of_the_call() -> None:
    with slow_server(lambda _: SLOW_HEADERS) as address:
        engine = open_engine(node_at(f"tcp://{address}"), 1)
        with pytest.raises(EngineUnreachable, match=r"longer than 1 s"):
            engine.__enter__()


@pytest.mark.parametrize("slow", [SLOW_HEADERS, SLOW_BODY], ids=["headers", "body"])
def test_slow_answer_exceeds_the_deadline_of_the_call(serve: Serve, slow: Answer) -> None:
    with serve(slow) as url, open_engine(node_at(url)) as engine:
        engine.timeout = 1
        with pytest.raises(EngineUnreachable, match=r"longer than 1 s"):
            engine.start("container")


def test_slow_message_of_a_pull_exceeds_its_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Answer(CHUNKED, chunk(b'{"status": "Downloading"}') + b"3e8\r\n" + FILLER)
    with serve(slow) as url, open_engine(node_at(url)) as engine:
        monkeypatch.setattr(engine_module, "STREAM_SECONDS", 1.5)
        with pytest.raises(EngineUnreachable, match=r"longer than 1\.5 s"):
            pull(engine, IMAGE, auth=None)


def test_endless_progress_of_a_pull_exceeds_its_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message arrives in time, as while a registry sends a layer one byte at a time."""
    endless = Answer(CHUNKED, chunk(b"{}") * 100)
    with serve(endless) as url, open_engine(node_at(url)) as engine:
        monkeypatch.setattr(engine_module, "PULL_SECONDS", 0.5)
        with pytest.raises(EngineUnreachable, match=r"longer than 0\.5 s"):
            pull(engine, IMAGE, auth=None)


def test_slow_archive_of_a_changelog_exceeds_the_deadline_of_the_call() -> None:
    created = Answer(http_answer(b'{"Id": "container"}'))

    def answer(call: bytes) -> Answer:
        line = call.partition(b"\r\n")[0]
        if b"/version" in line:
            return VERSION
        return SLOW_BODY if b"/archive" in line else created

    with slow_server(answer) as address, open_engine(node_at(f"tcp://{address}")) as engine:
        engine.timeout = 1
        with pytest.raises(EngineUnreachable, match=r"took longer than 1 s"):
            read_changelog(engine, IMAGE, {})
