"""`flotilla doctor`: check everything Flotilla depends on."""

from __future__ import annotations

import click

from daemon.commands.output import print_text
from daemon.context import current_context
from daemon.doctor import run_checks
from portal.rules.outside_text import clean_line

_MAX_CHARACTERS = 1000


@click.command()
def doctor() -> None:
    """Check disk, data folder, proxy, Redis, workers, mail, database, scheduler, gateway, engines and registries.

    The exit code is 1 if a check fails.
    """
    passed = True
    for result in run_checks(current_context()):
        # Servers choose a part of the detail, up to a page of HTML.
        detail = clean_line(result.detail, _MAX_CHARACTERS)
        print_text(f"{'ok    ' if result.passed else 'FAILED'}  {result.subject}: {detail}")
        passed = passed and result.passed
    if not passed:
        raise click.exceptions.Exit(1)
