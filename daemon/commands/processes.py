"""`flotilla worker`, `scheduler` and `redis`: the processes that run in the background."""

from __future__ import annotations

import click

from daemon import embedded_redis
from daemon.context import current_context
from daemon.scheduler import Scheduler
from daemon.worker import Supervisor
from portal import logs


@click.command()
def worker() -> None:
    """Run the background jobs: polls, updates, health checks, mail.

    Starts WORKER_PROCESSES processes; the first never updates bots, so that a long update holds up nothing else.
    SIGTERM lets running jobs finish for a minute; what is cut off then, another worker takes over.
    """
    context = current_context()
    logs.configure(context.settings)
    Supervisor(context).run()


@click.command()
def scheduler() -> None:
    """Ask the workers for whatever is due.

    Run as many as you like: one leads, the others take over within seconds when it dies.
    """
    context = current_context()
    logs.configure(context.settings)
    Scheduler(context).run()


@click.command()
def redis() -> None:
    """Run the Redis-compatible server of a single machine.

    It listens on a socket in DATA_DIR, where all processes look for it while REDIS_URL is unset. With REDIS_URL it
    does nothing until it is ended.
    """
    embedded_redis.run_server(current_context().settings)
