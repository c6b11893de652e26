"""People who use a bot: a constant rate of requests, and WebSockets that are opened again. Run as a process.

A request starts when it is due, also while earlier ones wait, as requests of many people do. None is repeated. After
SIGTERM, the process waits for the outstanding responses and prints what it has seen, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import uvloop

from demo.bench.gateway.visitors import Visitor

_SECONDS_TO_ANSWER = 60
_NOTE_EVERY = 40
"""Every fortieth request writes a note."""
_HELLO = "hello"
_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass
class Report:
    """What the process has seen. Times are in seconds.

    Attributes:
        requests: number of requests.
        failed: number of requests without a response of the bot, by status or error.
        notes: number of notes that the bot has confirmed.
        waits: how long each request took, from the moment when it was due.
        sockets: how often a WebSocket was opened.
        sockets_failed: how often opening a WebSocket failed, by status or error.
        longest_reconnect: the longest time from the end of a WebSocket to the next one.
    """

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    notes: int = 0
    waits: list[float] = field(default_factory=list)
    sockets: int = 0
    sockets_failed: Counter[str] = field(default_factory=Counter)
    longest_reconnect: float = 0

    @property
    def longest_wait(self) -> float:
        """The longest time that a request took."""
        return max(self.waits, default=0)

    @property
    def p50(self) -> float:
        """The median time of a request."""
        return statistics.median(self.waits)


class LoadGenerator:
    """Sends requests and opens WebSockets.

    Args:
        client: an HTTP client without a limit of connections.
        port: where the gateway listens.
        visitors: people who are signed in.
    """

    def __init__(self, client: aiohttp.ClientSession, port: int, visitors: Sequence[Visitor]) -> None:
        self.report = Report()
        self._client = client
        self._url = f"http://127.0.0.1:{port}"
        self._visitors = visitors

    async def run(self, rate: float, sockets: int, stopped: asyncio.Event) -> None:
        """Run until `stopped` is set and all outstanding responses have arrived.

        Args:
            rate: requests per second.
            sockets: number of WebSockets.
            stopped: ends the load.
        """
        open_sockets = [asyncio.create_task(self._keep_socket_open(number)) for number in range(sockets)]
        requests: list[asyncio.Task[None]] = []
        began = time.monotonic()
        while not stopped.is_set():
            due = began + len(requests) / rate
            await asyncio.sleep(due - time.monotonic())
            requests.append(asyncio.create_task(self._send(len(requests), due)))
        await asyncio.gather(*requests)
        for task in open_sockets:
            task.cancel()
        await asyncio.gather(*open_sockets, return_exceptions=True)

    async def _send(self, number: int, due: float) -> None:
        failure = await (self._write_note(number) if number % _NOTE_EVERY == 0 else self._read(number))
        self.report.requests += 1
        self.report.waits.append(time.monotonic() - due)
        if failure is not None:
            self.report.failed[failure] += 1

    async def _read(self, number: int) -> str | None:
        """Read a small answer of the bot. Return what went wrong."""
        try:
            async with self._client.get(f"{self._url}/me", headers=self._headers_of(number)) as response:
                await response.read()
        except _ERRORS as error:
            return type(error).__name__
        return None if response.status == 200 else str(response.status)

    async def _write_note(self, number: int) -> str | None:
        """Write a note. Return what went wrong."""
        form, headers = {"text": f"note {number}"}, self._headers_of(number)
        url = f"{self._url}/notes"
        try:
            async with self._client.post(url, data=form, headers=headers, allow_redirects=False) as response:
                await response.read()
        except _ERRORS as error:
            return type(error).__name__
        if response.status != 303:
            return str(response.status)
        self.report.notes += 1
        return None

    async def _keep_socket_open(self, number: int) -> None:
        ended: float | None = None
        while True:
            try:
                ended = await self._use_socket(number, ended)
            except aiohttp.WSServerHandshakeError as error:
                self.report.sockets_failed[str(error.status)] += 1
            except _ERRORS as error:
                self.report.sockets_failed[type(error).__name__] += 1
            await asyncio.sleep(0.1)

    async def _use_socket(self, number: int, ended: float | None) -> float:
        """Use a WebSocket until it is closed, and return when it was closed.

        Args:
            number: tells the sockets apart.
            ended: when the one before was closed.
        """
        headers = {**self._headers_of(number), "Origin": f"http://{self._visitors[0].host}"}
        async with self._client.ws_connect(f"{self._url}/ws", headers=headers) as socket:
            await socket.send_str(_HELLO)
            answer = await socket.receive()
            if answer.data == _HELLO:
                self.report.sockets += 1
                if ended is not None:
                    self.report.longest_reconnect = max(self.report.longest_reconnect, time.monotonic() - ended)
                await socket.receive()
            return time.monotonic()

    def _headers_of(self, number: int) -> dict[str, str]:
        return self._visitors[number % len(self._visitors)].headers


async def _run(port: int, visitors: Sequence[Visitor], rate: float, sockets: int) -> Report:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=_SECONDS_TO_ANSWER),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as client:
        client._retry_connection = False  # noqa: SLF001 - aiohttp has no public way to switch it off
        generator = LoadGenerator(client, port, visitors)
        print("running", flush=True)
        await generator.run(rate, sockets, stopped)
        return generator.report


def main() -> None:
    """Run until SIGTERM. The visitors come on standard input, as JSON, because their tokens are secret."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--sockets", type=int, required=True, help="number of WebSockets")
    options = parser.parse_args()
    visitors = [Visitor(**fields) for fields in json.loads(input())]
    report = uvloop.run(_run(options.port, visitors, options.rate, options.sockets))
    print(json.dumps(vars(report)))


if __name__ == "__main__":
    main()
