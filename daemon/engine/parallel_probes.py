"""Health checks of many bots side by side in one thread, each with a deadline. Used by the node probe.

A thread for each check would cost several times as much. What is requested and expected is the same as in
`health_probe`: one GET without redirects and proxies, of whose answer 64 KB are read.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

from daemon.engine import health_probe
from daemon.engine.health_probe import HealthCheck, ProbeResult, judge_answer, judge_error

logger = logging.getLogger(__name__)

_MAX_RECEIVED = 2 * health_probe.MAX_BYTES
"""Bytes of an answer with its headers. One that is longer is cut off."""
_FIRST_FINAL_STATUS = 200
_INVALID_TARGET = frozenset(map(chr, range(33))) | {"\x7f"}


@dataclass(frozen=True)
class Target:
    """A bot to probe.

    Attributes:
        address: `host:port`.
        check: its health check.
        retry: whether it is probed again when the first probe fails.
    """

    address: str
    check: HealthCheck
    retry: bool


def probe_all(targets: Sequence[Target], parallel: int) -> list[ProbeResult]:
    """Probe bots, and return the results in the same order.

    Args:
        targets: the bots.
        parallel: number of probes at once.
    """
    return uvloop.run(_probe_all(targets, parallel)) if targets else []


async def _probe_all(targets: Sequence[Target], parallel: int) -> list[ProbeResult]:
    free = asyncio.Semaphore(parallel)
    return await asyncio.gather(*(_probe(target, free) for target in targets))


async def _probe(target: Target, free: asyncio.Semaphore) -> ProbeResult:
    async with free:
        result = await _probe_once(target)
    if result.ok or not target.retry:
        return result
    await asyncio.sleep(health_probe.RETRY_PAUSE_SECONDS)
    async with free:
        return await _probe_once(target)


async def _probe_once(target: Target) -> ProbeResult:
    seconds = health_probe.PROBE_SECONDS
    try:
        async with asyncio.timeout(seconds):
            status, body = await _request(target)
        return judge_answer(target.check, status, body)
    except (OSError, http.client.HTTPException, httptools.HttpParserError, ValueError) as error:
        return judge_error(error, seconds)
    except Exception as error:  # an answer of an unforeseen kind must not end the probes of all other bots
        logger.exception("the probe of %s failed", target.address)
        return judge_error(error, seconds)


async def _request(target: Target) -> tuple[int, bytes]:
    """Return the status and the beginning of the body."""
    parts = urlsplit(f"//{target.address}")
    if not target.check.path.isascii() or _INVALID_TARGET & set(target.check.path):
        raise ValueError("the path of the health check cannot be sent")
    loop = asyncio.get_running_loop()
    exchange = _Exchange(target, loop.create_future())
    transport, _ = await loop.create_connection(
        lambda: exchange, parts.hostname or "", parts.port or http.client.HTTP_PORT
    )
    try:
        return await exchange.answer
    finally:
        transport.abort()


class _Exchange(asyncio.Protocol):
    """One request and its answer.

    Args:
        target: the bot.
        answer: receives status and body.
    """

    def __init__(self, target: Target, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        self.answer = answer
        self._target = target
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0
        self._status = 0
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        head = f"GET {self._target.check.path} HTTP/1.1\r\nHost: {self._target.address}\r\n"
        head += "Accept: application/json\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        cast("asyncio.WriteTransport", transport).write(head.encode())

    def data_received(self, data: bytes) -> None:
        """Parse a part of the answer; the parser calls the methods below."""
        self._received += len(data)
        if self.answer.done():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # what follows is not HTTP
            self._finish()
        except httptools.HttpParserError as error:
            self._fail(error)
        if self._received > _MAX_RECEIVED:
            self._end()

    def on_headers_complete(self) -> None:
        """Remember the status."""
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body += body
        if len(self._body) > health_probe.MAX_BYTES:
            self._end()

    def on_message_complete(self) -> None:
        """End the exchange, unless only an informational answer was received."""
        if self._status >= _FIRST_FINAL_STATUS:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take what has arrived as the answer, because its end may be that of the connection."""
        if exc is not None:
            self._fail(exc)
        self._end()

    def _end(self) -> None:
        if self._status < _FIRST_FINAL_STATUS:
            self._fail(http.client.RemoteDisconnected("Remote end closed connection without response"))
        else:
            self._finish()

    def _finish(self) -> None:
        if not self.answer.done():
            self.answer.set_result((self._status, self._body))

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
