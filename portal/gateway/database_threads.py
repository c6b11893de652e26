"""Access to the database from the event loop: a few threads and a time limit. Used by the gateway's modules."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from portal.database import Database, is_unavailable
from portal.gateway.limits import DATABASE_SECONDS, DATABASE_THREADS

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class DatabaseUnavailable(Exception):
    """The database did not answer in time, or refused."""


class DatabaseThreads:
    """Runs functions with a database session in threads.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="database")
        # Changes wait for locks. They must not keep decisions, which only read, from being made.
        self._writers = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="database changes")

    async def read(self, query: Callable[[Session], Result]) -> Result:
        """Run `query` in a read-only transaction.

        Raises:
            DatabaseUnavailable: there is no result in time.
        """

        def run() -> Result:
            with self._database.reading() as session:
                return query(session)

        return await self._run(self._readers, run)

    async def write(self, change: Callable[[Session], Result]) -> Result:
        """Run `change` in a write transaction.

        Raises:
            DatabaseUnavailable: there is no result in time. The change may still be committed later.
        """

        def run() -> Result:
            with self._database.transaction() as session:
                return change(session)

        return await self._run(self._writers, run)

    def close(self) -> None:
        """Give up waiting calls."""
        for threads in (self._readers, self._writers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[[], Result]) -> Result:
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(threads, call)
        except (SQLAlchemyError, TimeoutError) as error:
            if isinstance(error, TimeoutError) or is_unavailable(error):
                logger.warning("the database does not answer: %s", type(error).__name__)
            else:
                logger.exception("a statement failed")
            raise DatabaseUnavailable from error
