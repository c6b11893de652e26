"""Deadlines over whole exchanges with other machines. Used by everything in the daemon that opens a connection.

The timeout of a socket starts again with each byte received. A peer that sends one byte every few seconds therefore
never exceeds it. A deadline has a timer that bytes do not restart, and shuts the connections down when it ends.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Protocol, Self


class DeadlineExceeded(TimeoutError):
    """An exchange did not end within its deadline."""


class _Connection(Protocol):
    def fileno(self) -> int: ...


class Deadline:
    """A time limit for all exchanges in a `with` block, in one thread.

    When the time is over, the connections of the block are shut down, which ends every read and write that waits.
    Deadlines may be nested: a connection obeys all of them.

    Attributes:
        ends_at: the moment at which the time is over, by the monotonic clock.

    Args:
        seconds: the time limit in seconds.
        accept_late_success: whether a block that succeeded after the time was over is a success. This suits exchanges
            whose success is certain and must not be repeated, such as the delivery of an email. An HTTP response that
            is cut off may look complete, because headers and bodies may end with the connection.

    Raises:
        DeadlineExceeded: on leaving, when the time was over.
    """

    def __init__(self, seconds: float, *, accept_late_success: bool = False) -> None:
        self._seconds = seconds
        self._accept_late_success = accept_late_success
        self.ends_at = float("inf")
        self._lock = Lock()
        self._expired = False
        self._connections: list[socket.socket] = []
        self._outer: Deadline | None = None
        self._token: Token[Deadline | None] | None = None

    def __enter__(self) -> Self:
        self.restart()
        self._outer = _current.get()
        self._token = _current.set(self)
        _timer.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        _timer.remove(self)
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        has_succeeded = error is None and self._accept_late_success
        if self._expired and not has_succeeded and (error is None or isinstance(error, Exception)):
            raise DeadlineExceeded(f"took longer than {self._seconds:g} s") from error

    def restart(self) -> None:
        """Start the time again. A stream does so after each complete message."""
        self.ends_at = time.monotonic() + self._seconds

    def remaining(self) -> float:
        """Return the seconds that remain until the first of this deadline and those around it; at least zero."""
        own = max(0.0, self.ends_at - time.monotonic())
        return own if self._outer is None else min(own, self._outer.remaining())

    def watch(self, connection: _Connection) -> None:
        """Shut a connection down when the time is over."""
        # A copy of the descriptor, because TLS takes the descriptor away from the object that connected.
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._connections.append(copy)
            if self._expired:
                _shut_down(copy)
        if self._outer is not None:
            self._outer.watch(connection)

    def expire(self) -> None:
        """Shut the connections down, because the time is over."""
        with self._lock:
            self._expired = True
            for connection in self._connections:
                _shut_down(connection)


class _Timer:
    """One thread for all deadlines of a process. A thread for each exchange would cost more than most exchanges."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._deadlines: set[Deadline] = set()
        self._wakes_at = float("inf")
        self._thread: Thread | None = None

    def add(self, deadline: Deadline) -> None:
        """Let a deadline expire when its time is over."""
        with self._condition:
            self._deadlines.add(deadline)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            if deadline.ends_at < self._wakes_at:
                self._condition.notify()

    def remove(self, deadline: Deadline) -> None:
        """Forget a deadline. It does not expire after that."""
        with self._condition:
            self._deadlines.discard(deadline)

    def _run(self) -> None:
        with self._condition:
            while True:
                now = time.monotonic()
                for deadline in [each for each in self._deadlines if each.ends_at <= now]:
                    self._deadlines.remove(deadline)
                    deadline.expire()
                self._wakes_at = min((each.ends_at for each in self._deadlines), default=float("inf"))
                self._condition.wait(None if self._wakes_at == float("inf") else self._wakes_at - now)


def _replace_timer() -> None:
    """Use a new timer in a forked process, because only the thread that forks continues there."""
    global _timer  # noqa: PLW0603 - one per process
    _timer = _Timer()


_timer = _Timer()
os.register_at_fork(after_in_child=_replace_timer)

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def watch(connection: _Connection) -> None:
    """Let a connection obey the deadlines of this thread."""
    deadline = _current.get()
    if deadline is not None:
        deadline.watch(connection)


def connect(
    host: str, port: int, timeout: float | None, permit: Callable[[Sequence[str]], object] | None = None
) -> socket.socket:
    """Connect to the first address of a host that accepts, within the deadlines of this thread.

    Args:
        host: name or address.
        port: port number.
        timeout: seconds to wait for each address, and later for each part of an answer.
        permit: receives all addresses before the first attempt, and raises an error to forbid them. The connection
            goes to one of these addresses, so a name that resolves differently a moment later gains nothing.

    Raises:
        OSError: no address accepts, or the time is over.
    """
    # The system's resolver has its own limits, which Python cannot shorten.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if permit is not None:
        permit([str(address[0]) for *_, address in found])
    error: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_limit_to_deadline(timeout))
            connection.connect(address)
            connection.settimeout(timeout)
            watch(connection)
        except OSError as problem:
            connection.close()
            error = problem
        else:
            return connection
    raise error


def _limit_to_deadline(timeout: float | None) -> float | None:
    deadline = _current.get()
    if deadline is None:
        return timeout
    remaining = deadline.remaining()
    if remaining == 0:
        raise DeadlineExceeded("the time to connect is over")
    return remaining if timeout is None else min(timeout, remaining)


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # already closed by the peer
        connection.shutdown(socket.SHUT_RDWR)
