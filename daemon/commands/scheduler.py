"""`flotilla scheduler`: enqueue due jobs."""

from __future__ import annotations

import click

from daemon.context import current_context
from daemon.scheduler import Scheduler
from portal import logs


@click.command()
def scheduler() -> None:
    """Enqueue due jobs for the workers.

    You may run several schedulers: one is active, and another takes over within seconds if it dies.
    """
    context = current_context()
    logs.configure(context.settings)
    Scheduler(context).run()
