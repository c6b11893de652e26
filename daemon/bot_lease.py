"""Lease on a bot, renewed by a thread, with fenced transactions. Used by jobs and commands that touch containers."""

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

RENEWAL_INTERVAL = LEASE_DURATION / 3
CALL_SECONDS = 20
"""Time limit in seconds of one engine call by the holder of a lease, well below the duration of the lease."""
_RETRY_SECONDS = 1.0
_MARGIN_SECONDS = 5.0


class BotLease:
    """The exclusive right to touch one bot's container for the duration of a `with` block.

    A thread renews the lease. If that fails, the whole process exits at once, because two processes must never work
    on one container.

    Args:
        database: database with the bot.
        bot_id: the bot.

    Raises:
        BotBusy: on entering, when another process holds the lease.
    """

    def __init__(self, database: Database, bot_id: str) -> None:
        self._database = database
        self._bot_id = bot_id
        self._fence = 0
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name=f"lease of bot {bot_id}", daemon=True)

    def __enter__(self) -> Self:
        with self._database.transaction() as session:
            self._fence = leases.acquire(session, self._bot_id, f"{socket.gethostname()} {os.getpid()}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        with self._database.transaction() as session:
            leases.release(session, self._bot_id, self._fence)

    @property
    def fence(self) -> int:
        """The number of this lease, which grows with every holder; 0 before the lease was acquired."""
        return self._fence

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction that renews the lease and locks the bot's row under its fence.

        Raises:
            LeaseLost: the lease was lost; nothing is written.
        """
        with self._database.transaction() as session:
            leases.renew(session, self._bot_id, self._fence)
            yield session

    def renew_or_raise(self, seconds: float = CALL_SECONDS) -> None:
        """Renew the lease right before an effect on the container, so that it outlives the effect.

        Args:
            seconds: time limit of the effect in seconds.

        Raises:
            LeaseLost: the lease was lost.
        """
        if seconds >= LEASE_DURATION.total_seconds():
            raise ValueError(f"{seconds} s exceeds the duration of a lease; start the work detached and poll it")
        with self.transaction():
            pass

    def _renew_until_released(self) -> None:
        renewed = time.monotonic()
        pause = RENEWAL_INTERVAL.total_seconds()
        while not self._released.wait(pause):
            try:
                self.renew_or_raise(0)
            except LeaseLost:
                _end_process(f"the lease on bot {self._bot_id} was taken over")
            except SQLAlchemyError as error:
                if time.monotonic() - renewed > LEASE_DURATION.total_seconds() - _MARGIN_SECONDS:
                    _end_process(f"the lease on bot {self._bot_id} could not be renewed: {type(error).__name__}")
                pause = _RETRY_SECONDS
            else:
                renewed, pause = time.monotonic(), RENEWAL_INTERVAL.total_seconds()


def _end_process(reason: str) -> None:
    logger.critical("%s; this process exits at once", reason)
    # Not an exception: another thread may wait for the engine and must not continue.
    os._exit(70)
