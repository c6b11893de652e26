"""The client for bots: the number of connections, and which of them are used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

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

    def build(method: str, body: AsyncIterator[bytes] | None = None, length: int | None = None) -> BotRequest:
        return BotRequest(
            address=address, method=method, target="/", headers=[], idle_seconds=None, body=body, length=length
        )

    async with asyncio.timeout(20), await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield build, connections
        await asyncio.gather(*connections)


def test_a_request_does_not_wait_forever_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_BOT", 1)
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 0.2)

    async def run() -> None:
        async with raw_bot(b"") as (build, _), BotClient() as client:
            first = asyncio.create_task(client.ask(build("GET")))
            await asyncio.sleep(0.1)  # until it has the connection
            with pytest.raises(BotUnreachable) as refused:
                await client.ask(build("GET"))
            assert not refused.value.was_sent
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    asyncio.run(run())


@pytest.mark.parametrize(("is_complete", "expected"), [(True, 1), (False, 2)])
def test_a_connection_with_half_a_body_is_not_used_again(is_complete: bool, expected: int) -> None:
    """The bot would take the next request, with the identity of another person, for the rest of the body."""

    async def run() -> None:
        has_answered = asyncio.Event()

        async def send() -> AsyncIterator[bytes]:
            yield b"half"
            await has_answered.wait()
            if not is_complete:
                raise ConnectionResetError("the client is gone")
            yield b"half"

        async with (
            raw_bot(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (build, connections),
            BotClient() as client,
        ):
            with await client.ask(build("POST", send(), 8)):
                has_answered.set()
                await asyncio.sleep(0.1)  # until the body has ended
            with await client.ask(build("GET")):
                assert len(connections) == expected

    asyncio.run(run())
