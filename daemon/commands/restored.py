"""`flotilla restored`: end the access that a restored backup of the database has revived."""

from __future__ import annotations

import click

from daemon.context import current_context
from portal.models import utcnow
from portal.services import backups


@click.command()
@click.confirmation_option(
    "--yes", prompt="This signs out all users and revokes all invites. Continue?", help="Do not ask for confirmation."
)
def restored() -> None:
    """End all access that a restored backup of the database may have revived.

    Run it after restoring a backup, before you start the portal again. It ends all sessions, mailed links, pending
    invites and offers of ownership, because some of them may have been revoked after the backup was made.
    """
    with current_context().database.transaction() as session:
        ended = backups.end_all_access(session, utcnow())
    click.echo(
        f"Ended {_count(ended.sessions, 'session')}, {_count(ended.links, 'mailed link')}, "
        f"{_count(ended.invites, 'invite')} and {_count(ended.offers, 'offer')} of ownership."
    )
    moment = f"{ended.backup_from:%Y-%m-%d %H:%M:%SZ}" if ended.backup_from else "the installation"
    click.echo(f"The backup does not contain changes since {moment}. Check and repeat, where needed:")
    click.echo(f"- operators: {', '.join(ended.operators) or 'none'}")
    click.echo("- accounts that were disabled or deleted, and members that were removed")
    click.echo("- passwords that were changed because they had become known")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
