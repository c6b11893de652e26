"""`flotilla redis`: run the embedded Redis-compatible server."""

from __future__ import annotations

import click

from daemon import embedded_redis
from daemon.context import current_context


@click.command()
def redis() -> None:
    """Run the embedded Redis-compatible server for an installation on one machine.

    It listens on a socket in DATA_DIR, which all processes use while REDIS_URL is not set. If REDIS_URL is set, this
    command only waits until it is stopped.
    """
    embedded_redis.run_server(current_context().settings)
