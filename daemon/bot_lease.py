"""Holding a bot: its lease is kept alive by a thread, and every write of the holder is fenced."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from portal.database import Database
from portal.services.bots import leases
from portal.services.bots.leases import LEASE_DURATION, LeaseLost

logger = logging.getLogger(__name__)

RENEWED_EVERY = LEASE_DURATION / 3
CALL_SECONDS = 20
"""Time limit of one call to the engine while holding a bot, well below the time a lease lasts."""
_RETRY_SECONDS = 1.0
_MARGIN_SECONDS = 5.0


class BotLease:
    """The exclusive right to touch one bot's container for the time of a `with` block.

    A thread renews the lease. When that fails, the process ends on the spot, whatever it is doing: going on
    without the lease would mean two processes working on one container.

    Args:
        database: where the bot stands.
        bot_id: the bot.

    Raises:
        BotBusy: on entering, when somebody else holds the bot.
    """

    def __init__(self, database: Database, bot_id: str) -> None:
        self._database = database
        self._bot_id = bot_id
        self._fence = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of bot {bot_id}", daemon=True)

    def __enter__(self) -> Self:
        with self._database.transaction() as session:
            self._fence = leases.acquire(session, self._bot_id, f"{socket.gethostname()} {os.getpid()}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with self._database.transaction() as session:
            leases.release(session, self._bot_id, self._fence)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A write that only the holder can make: the bot's row is locked under our fence until it is committed.

        Raises:
            LeaseLost: when the bot is no longer ours; nothing is written.
        """
        with self._database.transaction() as session:
            leases.renew(session, self._bot_id, self._fence)
            yield session

    def renew_or_raise(self, seconds: float = CALL_SECONDS) -> None:
        """Make sure, right before something is done to the container, that nobody takes the bot over meanwhile.

        Args:
            seconds: time limit of what is about to be done.

        Raises:
            LeaseLost: when the bot is no longer ours.
        """
        if seconds >= LEASE_DURATION.total_seconds():
            raise ValueError(f"{seconds} s is longer than a lease lasts; start it detached and poll")
        with self.transaction():
            pass

    def _keep(self) -> None:
        renewed = time.monotonic()
        pause = RENEWED_EVERY.total_seconds()
        while not self._ended.wait(pause):
            try:
                self.renew_or_raise(0)
            except LeaseLost:
                _end_process(f"the lease on bot {self._bot_id} was taken over")
            except SQLAlchemyError as error:
                if time.monotonic() - renewed > LEASE_DURATION.total_seconds() - _MARGIN_SECONDS:
                    _end_process(f"the lease on bot {self._bot_id} could not be renewed: {type(error).__name__}")
                pause = _RETRY_SECONDS
            else:
                renewed, pause = time.monotonic(), RENEWED_EVERY.total_seconds()


def _end_process(reason: str) -> None:
    logger.critical("%s; ending at once, so that nobody else is disturbed", reason)
    # Not an exception: another thread may be waiting for the engine, and must not wake up and go on.
    os._exit(70)
