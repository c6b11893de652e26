"""`flotilla doctor`: check everything Flotilla depends on."""

from __future__ import annotations

import click

from daemon.commands.output import print_text
from daemon.context import current_context
from daemon.doctor import run_checks


@click.command()
def doctor() -> None:
    """Check disk, data folder, proxy, Redis, workers, mail, database, scheduler, gateway, engines and registries.

    The exit code is 1 if a check fails.
    """
    passed = True
    for result in run_checks(current_context()):
        print_text(f"{'ok    ' if result.passed else 'FAILED'}  {result.subject}: {result.detail}")
        passed = passed and result.passed
    if not passed:
        raise click.exceptions.Exit(1)
