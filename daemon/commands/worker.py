"""`flotilla worker`: run background jobs."""

from __future__ import annotations

import click

from daemon.context import current_context
from daemon.worker import Supervisor
from portal import logs


@click.command()
def worker() -> None:
    """Run background jobs: polls, updates, health checks, email.

    Starts WORKER_PROCESSES processes, of which the first never updates bots, so that other jobs need not wait for
    updates. Eleven more processes serve probes (1), logs (1), registries (2), email (2), syncs of members (2),
    creations of bots (2) and alerts (1).
    After SIGTERM running jobs have one minute to finish; another worker takes over jobs that did not.
    """
    context = current_context()
    logs.configure(context.settings)
    Supervisor(context).run()
