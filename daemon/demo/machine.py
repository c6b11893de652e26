"""Everything Flotilla needs around it on one machine: an engine, a registry and Redis."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.demo.engine import existing_engine, running_engine
from daemon.demo.redis_server import running_redis
from daemon.demo.registry import running_registry


@dataclass(frozen=True)
class Machine:
    """Addresses of the running parts: `unix://…`, `host:port` and `redis://…`."""

    docker_url: str
    registry: str
    redis_url: str


@contextmanager
def running_machine(folder: Path, *, own_engine: bool = False) -> Iterator[Machine]:
    """Run all parts for the time of a `with` block.

    Args:
        folder: keeps their data; the same folder gives the same images and containers again.
        own_engine: start a private engine even when one answers.

    Raises:
        MachineError: a part is missing or does not start; the message says what to do.
    """
    with ExitStack() as parts:
        docker_url = (None if own_engine else existing_engine()) or parts.enter_context(
            running_engine(folder / "engine")
        )
        registry = parts.enter_context(running_registry(folder / "registry"))
        redis_url = parts.enter_context(running_redis(folder / "redis"))
        yield Machine(docker_url, registry, redis_url)
