"""`flotilla doctor`: is everything there that Flotilla needs?"""

from __future__ import annotations

import click

from daemon.context import current_context
from daemon.doctor import run_checks


@click.command()
def doctor() -> None:
    """Look at disk, Redis, workers, mail server, database, scheduler, engines and registries.

    The exit code is 1 when something is wrong.
    """
    well = True
    for finding in run_checks(current_context()):
        click.echo(f"{'ok   ' if finding.well else 'WRONG'}  {finding.subject}: {finding.detail}")
        well = well and finding.well
    if not well:
        raise click.exceptions.Exit(1)
