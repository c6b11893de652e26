"""The gateway's process: listening, background tasks, graceful end. Used by `flotilla gateway`."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime

import uvloop
from sqlalchemy.orm import Session

from portal.database import Database
from portal.gateway import limits
from portal.gateway.access_log import AccessLog
from portal.gateway.assertions import Assertions, SigningKey
from portal.gateway.bot_headers import BotHeaders
from portal.gateway.change_listener import listen
from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable
from portal.gateway.exchanges import GOING_AWAY, Exchanges
from portal.gateway.handler import Handler
from portal.gateway.holding import Holding
from portal.gateway.http.bot_client import BotClient
from portal.gateway.http.browser_server import listening
from portal.gateway.revocation import Revocation
from portal.gateway.visit_cache import VisitCache
from portal.models import utcnow
from portal.services.gateway import assertion_keys
from portal.settings import Settings

logger = logging.getLogger(__name__)

_KEY_SECONDS = 600.0
_KEY_RETRY_SECONDS = 5.0
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
        tasks: list[asyncio.Task[None]] = []
        address, port = settings.gateway.bind_address, settings.gateway.port
        try:
            # Updates wait for this process from now on, and the first request gets an assertion.
            await holding.follow()
            await use_current_key(threads, issuer)
            background = [holding.run(), revocation.run(), listen(settings.redis_url, on_change)]
            background += [_follow_keys(threads, issuer), log.run()]
            tasks += map(asyncio.create_task, background)
            async with listening(handler.handle, address, port):
                logger.info("the gateway listens on %s port %d", address, port)
                try:
                    yield
                finally:
                    exchanges.abort_streams(GOING_AWAY)
        finally:
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


async def _serve_until_stopped(settings: Settings, database: Database) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if settings.gateway.bots_domain is None:
        logger.info("BOTS_DOMAIN is not set; no bot can be opened, and this process only waits")
        await stopped.wait()
        return
    permit_many_connections()
    async with running_gateway(settings, database):
        _relax_garbage_collection()
        await stopped.wait()
        logger.info("the gateway ends; running requests have %d s", limits.SHUTDOWN_SECONDS)


def permit_many_connections() -> None:
    """Raise the limit of open files, as far as the system permits: strangers could use up the usual 1024."""
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(limits.OPEN_FILES, highest)
    if limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, highest))


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
