"""`flotilla worker`, `scheduler`, `gateway` and `redis`: run the processes of Flotilla other than the portal."""

from __future__ import annotations

import click

from daemon import embedded_redis
from daemon.context import current_context
from daemon.scheduler import Scheduler
from daemon.worker import Supervisor
from portal import logs
from portal.gateway.server import run_gateway


@click.command()
def worker() -> None:
    """Run background jobs: polls, updates, health checks, email.

    Starts WORKER_PROCESSES processes, of which the first never updates bots, so that other jobs need not wait for
    updates. Ten more processes serve probes (1), logs (1), registries (2), email (2), syncs of members (2) and
    creations of bots (2).
    After SIGTERM running jobs have one minute to finish; another worker takes over jobs that did not.
    """
    context = current_context()
    logs.configure(context.settings)
    Supervisor(context).run()


@click.command()
def scheduler() -> None:
    """Enqueue due jobs for the workers.

    You may run several schedulers: one is active, and another takes over within seconds if it dies.
    """
    context = current_context()
    logs.configure(context.settings)
    Scheduler(context).run()


@click.command()
def gateway() -> None:
    """Carry people from their browsers to their bots, with their identity.

    Listens on GATEWAY_BIND_ADDRESS and GATEWAY_PORT for the hosts below BOTS_DOMAIN. You may run several gateways on
    one machine; they share the port. After SIGTERM running requests have 15 seconds to finish. If BOTS_DOMAIN is not
    set, this command only waits until it is stopped.
    """
    context = current_context()
    logs.configure(context.settings)
    run_gateway(context.settings, context.database)


@click.command()
def redis() -> None:
    """Run the embedded Redis-compatible server for an installation on one machine.

    It listens on a socket in DATA_DIR, which all processes use while REDIS_URL is not set. If REDIS_URL is set, this
    command only waits until it is stopped.
    """
    embedded_redis.run_server(current_context().settings)
