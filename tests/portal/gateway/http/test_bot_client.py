"""The client for bots: the number of connections, and which of them are used again."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

import pytest

from portal.gateway import limits
from portal.gateway.http.bodies import Body
from portal.gateway.http.bot_client import BotClient, BotRequest
from portal.gateway.http.bot_errors import BotTooSlow, BotUnreachable, ConnectionClosed

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
                with pytest.raises(BotTooSlow):
                    await read_all(answer.head.body)

    asyncio.run(run())


async def read_all(body: Body) -> bytes:
    """Read a body until its end."""
    received = b""
    while part := await body.read():
        received += part
    return received


def test_a_connection_is_not_used_again_if_the_client_left_before_the_response() -> None:
    async def run() -> None:
        async def send(*, is_gone: bool) -> AsyncIterator[bytes]:
            if is_gone:
                raise ConnectionResetError("the client is gone")
            yield b"half"

        async with (
            raw_bot(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (build, connections),
            BotClient() as client,
        ):
            with await client.ask(build("POST", send(is_gone=True))):
                pass
            with await client.ask(build("GET")):
                assert len(connections) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: a\r\n\r\n", 1),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 3),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 3),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 3),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 3),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 3),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1),
    ],
)
def test_a_connection_is_used_again_after_a_whole_response_without_surplus(
    method: str, answer: bytes, expected: int
) -> None:
    async def run() -> None:
        async with raw_bot(answer) as (build, connections), BotClient() as client:
            for _ in range(3):
                with await client.ask(build(method)) as response:
                    assert await read_all(response.head.body) in {b"", b"ok"}
                await asyncio.sleep(0)
            assert len(connections) == expected

    asyncio.run(run())


def test_what_arrives_after_a_response_never_becomes_the_next_one() -> None:
    """Also if the event loop was too busy to read it before the next request."""
    response = b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: 0\r\n\r\n"

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            build, loop = build_for(listener), asyncio.get_running_loop()
            async with asyncio.timeout(20), BotClient() as client:
                with closing(await answer_next(client, build("GET"), listener, response % 1)) as first:
                    first.setblocking(True)
                    first.sendall(response % 2)
                    asking = loop.create_task(client.ask(build("GET")))
                    with closing((await loop.sock_accept(listener))[0]) as second:
                        await loop.sock_sendall(second, response % 3)
                        with await asking as answer:
                            assert answer.head.fields["x-number"] == "3"

    asyncio.run(run())


async def answer_next(
    client: BotClient, request: BotRequest, listener: socket.socket, response: bytes
) -> socket.socket:
    """Send a request, answer it, and return the bot's end of the connection."""
    loop = asyncio.get_running_loop()
    asking = loop.create_task(client.ask(request))
    connection, _ = await loop.sock_accept(listener)
    await loop.sock_recv(connection, 65536)
    await loop.sock_sendall(connection, response)
    with await asking:
        return connection


def build_for(listener: socket.socket) -> Build:
    """Return a function that builds requests for a bot that listens."""

    def build(method: str, body: AsyncIterator[bytes] | None = None, idle_seconds: float | None = None) -> BotRequest:
        return BotRequest(
            address=f"127.0.0.1:{listener.getsockname()[1]}",
            method=method,
            target="/",
            headers=[],
            idle_seconds=idle_seconds,
            body=body,
        )

    return build


def test_a_bot_that_does_not_receive_the_body_is_too_slow() -> None:
    async def send() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with asyncio.timeout(20), BotClient() as client:
                with pytest.raises(BotTooSlow):
                    await client.ask(build_for(listener)("POST", send(), 0.2))

    asyncio.run(run())


def test_requests_that_wait_get_the_places_of_connections_that_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_BOT", 2)

    async def run() -> None:
        async with (
            raw_bot(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as (build, connections),
            BotClient() as client,
        ):

            async def ask() -> None:
                with await client.ask(build("GET")):
                    pass

            asking = [asyncio.create_task(ask()) for _ in range(8)]
            await asyncio.sleep(0)
            asking[3].cancel()
            ended = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(error) for error in ended if error is not None] == [asyncio.CancelledError]
            assert len(connections) == 7

    asyncio.run(run())


def test_nothing_remains_of_a_connection_whose_response_broke_off() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(20), BotClient() as client:
                asking = loop.create_task(client.ask(build_for(listener)("GET", None, 600)))
                with closing((await loop.sock_accept(listener))[0]) as bot:
                    await loop.sock_sendall(bot, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
                    with await asking as answer:
                        answer.head.body.feed(bytes(limits.BUFFER_BYTES))
                        answer.connection.abort()
                        await asyncio.sleep(0)
                        with pytest.raises(ConnectionClosed):
                            await read_all(answer.head.body)
                connection = weakref.ref(answer.connection)
                del answer, asking
                await asyncio.sleep(0.05)
                gc.collect()
                assert connection() is None

    asyncio.run(run())
