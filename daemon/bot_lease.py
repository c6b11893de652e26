"""Lease on a bot, renewed by a thread, with fenced transactions. Used by jobs and commands that touch containers.

The lease has to keep two promises:

- **A worker that lost the lease changes nothing in the database.** Every transaction begins with a check of the
  fence that locks the bot's row. The database decides, so neither clocks nor pauses matter.
- **It changes nothing on an engine either.** An engine knows no fences. So a check by the database precedes each
  call that changes something, and the lease outlives the time limit of the call. One check serves the calls of the
  next `_CERTAIN_SECONDS`, because a worker can be suspended for longer between any check and its call.

The clock for the age of a check counts while the process or its machine is suspended, and it cannot be set. A process
that was stopped (SIGSTOP) therefore asks the database again. A virtual machine that its host suspends does not notice
that: its worker may carry out what it began in that fraction of a second, like a call that it has already sent.

Waiting changes nothing, so code that waits does not renew the lease. The thread does so every `RENEWAL_INTERVAL`. If
it finds the lease lost, or cannot renew the lease in time, it ends the process.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa
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
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS lacks it; its other clock never stops
_CERTAIN_SECONDS = 0.25
"""For how long a check of the fence counts, about as long as a call to an engine takes."""

Result = TypeVar("Result")


class BotLease:
    """The exclusive right to touch one bot's container for the duration of a `with` block.

    A thread renews the lease. If that fails, the whole process exits at once, because two processes must never work
    on one container.

    Args:
        database: database with the bot.
        bot_id: the bot.

    Attributes:
        database: that database.

    Raises:
        BotBusy: on entering, when another process holds the lease.
    """

    def __init__(self, database: Database, bot_id: str) -> None:
        self.database = database
        self._bot_id = bot_id
        self._fence = 0
        self._checked = self._renewed = -LEASE_DURATION.total_seconds()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_released, name=f"lease of bot {bot_id}", daemon=True)

    def __enter__(self) -> Self:
        with self._noting_check(renewed=True), self.database.transaction() as session:
            self._fence = leases.acquire(session, self._bot_id, f"{socket.gethostname()} {os.getpid()}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        with self.database.transaction() as session:
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
        with self._noting_check(renewed=True), self.database.transaction() as session:
            leases.renew(session, self._bot_id, self._fence)
            yield session

    def change(self, change: Callable[[Session, sa.ColumnElement[bool]], Result | None]) -> Result:
        """Make a change that takes one statement, with the fence as a condition of the statement.

        Args:
            change: gets a session and the condition; returns None when the condition does not hold.

        Returns:
            What `change` returned.

        Raises:
            LeaseLost: the lease was lost; nothing was written.
        """
        with self._noting_check(renewed=False), self.database.transaction() as session:
            result = change(session, leases.is_held(self._bot_id, self._fence))
            if result is None:
                raise LeaseLost(f"the lease on bot {self._bot_id} was lost")
        return result

    def renew_or_raise(self, seconds: float = CALL_SECONDS) -> None:
        """Verify right before an effect on the container that the lease is held and outlives the effect.

        Args:
            seconds: time limit of the effect in seconds.

        Raises:
            LeaseLost: the lease was lost.
        """
        if seconds >= LEASE_DURATION.total_seconds():
            raise ValueError(f"{seconds} s exceeds the duration of a lease; start the work detached and poll it")
        now = _now()
        outlives = now + seconds < self._renewed + LEASE_DURATION.total_seconds()
        if not outlives or now - self._checked > _CERTAIN_SECONDS:
            with self.transaction():
                pass

    @contextmanager
    def _noting_check(self, *, renewed: bool) -> Iterator[None]:
        """Note when the fence was checked, or the lease renewed, in the transaction of the `with` block."""
        began = _now()  # before the database read its clock
        try:
            yield
        except LeaseLost:
            self._checked = self._renewed = -LEASE_DURATION.total_seconds()
            raise
        self._checked = began
        if renewed:
            self._renewed = began

    def _renew_until_released(self) -> None:
        pause = RENEWAL_INTERVAL.total_seconds()
        while not self._released.wait(pause):
            try:
                with self.transaction():
                    pass
            except LeaseLost:
                _end_process(f"the lease on bot {self._bot_id} was taken over")
            except SQLAlchemyError as error:
                if _now() - self._renewed > LEASE_DURATION.total_seconds() - _MARGIN_SECONDS:
                    _end_process(f"the lease on bot {self._bot_id} could not be renewed: {type(error).__name__}")
                pause = _RETRY_SECONDS
            else:
                pause = RENEWAL_INTERVAL.total_seconds()


def _now() -> float:
    """Return seconds of a clock that also counts while the machine is suspended, and that cannot be set."""
    return time.clock_gettime(_CLOCK)


def _end_process(reason: str) -> None:
    logger.critical("%s; this process exits at once", reason)
    # Not an exception: another thread may wait for the engine and must not continue.
    os._exit(70)
