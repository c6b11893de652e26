"""Stubs of bots in another process: one confirms every call, and one never answers. Used by `syncs`."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from typing import Any

_ANSWER_SECONDS = 0.005
"""How long the stub takes for each answer, as a bot on the same machine does."""


def _new_value(kind: str) -> Any:
    return multiprocessing.Value(kind, 0)


@dataclass
class StubBots:
    """The addresses of the stubs, and what they have counted. All bots of a benchmark share them."""

    answering_port: Synchronized[int] = field(default_factory=lambda: _new_value("i"))
    hanging_port: Synchronized[int] = field(default_factory=lambda: _new_value("i"))
    calls: Synchronized[int] = field(default_factory=lambda: _new_value("i"))
    most_at_once: Synchronized[int] = field(default_factory=lambda: _new_value("i"))
    last_call_at: Synchronized[float] = field(default_factory=lambda: _new_value("d"))
    """Moment of `time.monotonic()`."""

    @property
    def answering(self) -> str:
        """Address of the stub that answers."""
        return f"127.0.0.1:{self.answering_port.value}"

    @property
    def hanging(self) -> str:
        """Address of the stub that does not answer."""
        return f"127.0.0.1:{self.hanging_port.value}"

    def reset(self) -> None:
        """Count from zero."""
        self.calls.value = self.most_at_once.value = 0


@contextmanager
def running_stub_bots() -> Iterator[StubBots]:
    """Run the stubs."""
    stubs = StubBots()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(stubs,), daemon=True)
    process.start()
    while not stubs.hanging_port.value:
        time.sleep(0.01)
    try:
        yield stubs
    finally:
        process.kill()
        process.join()


def _run(stubs: StubBots) -> None:
    asyncio.run(_serve(stubs))


async def _serve(stubs: StubBots) -> None:
    open_calls = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_calls
        open_calls += 1
        stubs.most_at_once.value = max(stubs.most_at_once.value, open_calls)
        with suppress(OSError, asyncio.IncompleteReadError):
            path, body = await _read(reader)
            await asyncio.sleep(_ANSWER_SECONDS)
            writer.write(_build_answer(path, body))
            await writer.drain()
        stubs.calls.value += 1
        stubs.last_call_at.value = time.monotonic()
        open_calls -= 1
        writer.close()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)
        writer.close()

    answering = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    hanging = await asyncio.start_server(hang, "127.0.0.1", 0, backlog=1000)
    stubs.answering_port.value = answering.sockets[0].getsockname()[1]
    stubs.hanging_port.value = hanging.sockets[0].getsockname()[1]
    await asyncio.gather(answering.serve_forever(), hanging.serve_forever())


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0])) if lengths else b"{}"
    return head.split(" ")[1], json.loads(body)


def _build_answer(path: str, body: dict[str, Any]) -> bytes:
    status = "200 OK"
    content: dict[str, Any] = {"ok": True}
    if path == "/internal/provision":
        status = "201 Created"
        content = {"tenantEntityId": body["tenantId"], "adminUserId": body["adminUser"]["id"], "agents": []}
    elif path.startswith("/internal/members?"):
        status, content = "404 Not Found", {}
    text = json.dumps(content).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text
