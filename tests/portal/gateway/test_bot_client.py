"""The client for bots: the number of connections, and which of them are used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

import aiohttp
import pytest

from portal.gateway import limits
from portal.gateway.bot_client import BotClient, BotRequest, BotUnreachable

Build = Callable[..., BotRequest]


@asynccontextmanager
async def raw_bot(answer: bytes) -> AsyncIterator[tuple[Build, list[asyncio.Task[None]]]]:
    """Run a bot that answers as soon as the headers of a request have arrived.

    Yield a function that builds requests for the bot, and the list of its connections.
    """
    connections: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if b" HTTP/1.1" in chunk:
                    writer.write(answer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(talk(reader, writer)))

    def build(method: str, body: AsyncIterator[bytes] | None = None, idle_seconds: float | None = None) -> BotRequest:
        length = None if body is None else 8
        return BotRequest(
            address=address,
            method=method,
            target="/",
            headers=[],
            idle_seconds=idle_seconds,
            body=body,
            length=length,
        )

    async with asyncio.timeout(20), await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield build, connections
        await asyncio.gather(*connections)


@pytest.mark.slow
def test_a_request_does_not_wait_forever_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_BOT", 1)
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 1)

    async def run() -> None:
        async with raw_bot(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n") as (build, _), BotClient() as client:
            with await client.ask(build("GET")):  # its response does not end
                with pytest.raises(BotUnreachable) as refused:
                    await client.ask(build("GET"))
                assert not refused.value.was_sent

    asyncio.run(run())


@pytest.mark.parametrize(("is_complete", "expected"), [(True, 1), (False, 2)])
def test_a_connection_with_half_a_body_is_not_used_again(is_complete: bool, expected: int) -> None:
    """The bot would take the next request, with the identity of another person, for the rest of the body."""

    async def run() -> None:
        has_answered, has_ended = asyncio.Event(), asyncio.Event()

        async def send() -> AsyncIterator[bytes]:
            yield b"half"
            try:
                await has_answered.wait()
                if not is_complete:
                    raise ConnectionResetError("the client is gone")
                yield b"half"
            finally:
                has_ended.set()

        async with (
            raw_bot(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (build, connections),
            BotClient() as client,
        ):
            with await client.ask(build("POST", send())):
                has_answered.set()
                await has_ended.wait()
            with await client.ask(build("GET")):
                assert len(connections) == expected

    asyncio.run(run())


def test_a_bot_that_stops_sending_after_an_incomplete_request_does_not_occupy_a_connection() -> None:
    async def run() -> None:
        has_answered = asyncio.Event()

        async def send() -> AsyncIterator[bytes]:
            yield b"half"
            await has_answered.wait()
            raise TimeoutError

        async with (
            raw_bot(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf") as (build, _),
            BotClient() as client,
        ):
            with await client.ask(build("POST", send(), 0.2)) as answer:
                has_answered.set()
                with pytest.raises(aiohttp.SocketTimeoutError):
                    await answer.content.readexactly(8)

    asyncio.run(run())
