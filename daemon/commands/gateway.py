"""`flotilla gateway`: carry people from their browsers to their bots."""

from __future__ import annotations

import click

from daemon.context import current_context
from portal import logs
from portal.gateway.server import run_gateway


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
