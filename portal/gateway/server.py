"""The gateway's process: listening, background tasks, graceful end. Used by `flotilla gateway`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus

import uvloop
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from sqlalchemy.orm import Session

from portal.database import Database
from portal.gateway import limits
from portal.gateway.access_log import AccessLog
from portal.gateway.assertions import Assertions, SigningKey
from portal.gateway.bot_client import BotClient
from portal.gateway.bot_headers import BotHeaders
from portal.gateway.change_listener import listen
from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable
from portal.gateway.exchanges import GOING_AWAY, Exchanges
from portal.gateway.handler import Handler
from portal.gateway.holding import Holding
from portal.gateway.pages import text_response
from portal.gateway.requests import TOO_LARGE
from portal.gateway.revocation import Revocation
from portal.gateway.visit_cache import VisitCache
from portal.models import utcnow
from portal.services.gateway import assertion_keys
from portal.settings import Settings

logger = logging.getLogger(__name__)

_KEY_SECONDS = 600.0
_KEY_RETRY_SECONDS = 5.0
_BACKLOG = 1024
_GARBAGE_THRESHOLD = 20_000
_CANCEL_SECONDS = 0.5


def run_gateway(settings: Settings, database: Database) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end. Without BOTS_DOMAIN only wait for the signal.

    Args:
        settings: settings of this installation.
        database: the database.
    """
    uvloop.run(_serve_until_stopped(settings, database))


@asynccontextmanager
async def running_gateway(settings: Settings, database: Database) -> AsyncIterator[None]:
    """Serve for the duration of a `with` block."""
    threads = DatabaseThreads(database)
    cache, exchanges, issuer = VisitCache(threads), Exchanges(), Assertions(settings.base_url)
    holding, revocation = Holding(threads, exchanges, cache), Revocation(exchanges, cache)
    log = AccessLog()

    def on_change(ids: set[str]) -> None:
        cache.forget_all(ids)
        revocation.recheck(ids)
        holding.check_now()

    async with BotClient() as client:
        handler = Handler(
            settings,
            client=client,
            threads=threads,
            cache=cache,
            exchanges=exchanges,
            holding=holding,
            headers=BotHeaders(settings, issuer),
            log=log,
        )
        runner = web.ServerRunner(_build_server(handler), shutdown_timeout=limits.SHUTDOWN_SECONDS)
        tasks: list[asyncio.Task[None]] = []
        try:
            # Updates wait for this process from now on, and the first request gets an assertion.
            await holding.follow()
            await use_current_key(threads, issuer)
            background = [holding.run(), revocation.run(), listen(settings.redis_url, on_change)]
            background += [_follow_keys(threads, issuer), log.run()]
            tasks += map(asyncio.create_task, background)
            await runner.setup()
            address, port = settings.gateway.bind_address, settings.gateway.port
            await web.TCPSite(runner, address, port, backlog=_BACKLOG, reuse_port=True).start()
            logger.info("the gateway listens on %s port %d", address, port)
            yield
        finally:
            exchanges.abort_streams(GOING_AWAY)
            await runner.cleanup()
            await end_tasks(tasks)
            log.flush()
            await holding.leave()
            threads.close()


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until all have ended.

    The Redis client drops a cancellation that arrives while it opens a connection, so one is not enough.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_SECONDS)


class _Connection(web.RequestHandler):
    """A connection of a client. aiohttp would log and repeat parts of malformed requests, which may be secret."""

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. After malformed ones read no more; aiohttp would keep all that follow."""
        super().data_received(data)
        if not self._messages or isinstance(self._messages[-1][0], RawRequestMessage):
            return
        running = self._current_request
        if running is not None and not running.content.is_eof():
            self.force_close()  # the body is malformed, so its request cannot be completed
        elif self.transport is not None:
            self.transport.pause_reading()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that could not be parsed or handled, and close the connection after it."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of a response was sent")
        if isinstance(exc, LineTooLong):
            response = text_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LARGE)
        else:
            response = text_response(HTTPStatus(status), "This request is malformed or could not be handled.")
        response.force_close()
        return response


class _Server(web.Server):
    """A server with connections of our class."""

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


def _build_server(handler: Handler) -> web.Server:
    return _Server(
        handler.handle,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=limits.KEEP_ALIVE_SECONDS,
        max_line_size=limits.MAX_LINE_BYTES,
        max_field_size=limits.MAX_LINE_BYTES,
        max_headers=limits.MAX_HEADERS,
        read_bufsize=limits.BUFFER_BYTES,
    )


async def _serve_until_stopped(settings: Settings, database: Database) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if settings.gateway.bots_domain is None:
        logger.info("BOTS_DOMAIN is not set; no bot can be opened, and this process only waits")
        await stopped.wait()
        return
    async with running_gateway(settings, database):
        _relax_garbage_collection()
        await stopped.wait()
        logger.info("the gateway ends; running requests have %d s", limits.SHUTDOWN_SECONDS)


def _relax_garbage_collection() -> None:
    """Search for garbage less often, and not among the modules: searches took a tenth of the time of requests."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)


async def _follow_keys(threads: DatabaseThreads, issuer: Assertions) -> None:
    """Create the keys of assertions when they are due, and sign with the current one."""
    while True:
        is_current = await use_current_key(threads, issuer)
        await asyncio.sleep(_KEY_SECONDS if is_current else _KEY_RETRY_SECONDS)


async def use_current_key(threads: DatabaseThreads, issuer: Assertions) -> bool:
    try:
        key = await threads.write(lambda session: _rotate_keys(session, utcnow()))
    except DatabaseUnavailable:
        return False
    if key is not None:
        issuer.use_key(key)
    return True


def _rotate_keys(session: Session, now: datetime) -> SigningKey | None:
    assertion_keys.rotate(session, now)
    row = assertion_keys.find_signing_key(session, now)
    return SigningKey.from_hex(row.id, row.private_key) if row is not None else None
