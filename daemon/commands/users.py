"""`flotilla users`: everybody's accounts."""

from __future__ import annotations

import click

from daemon.commands.output import table
from daemon.context import current_context
from portal.models import utcnow
from portal.services.accounts import administration as service
from portal.services.accounts.administration import AccountRow


@click.group()
def users() -> None:
    """Users: everybody who has an account."""


@users.command("list")
@click.option("--search", default="", help="Only those whose name or address has this in it.")
def list_(search: str) -> None:
    """Show the accounts, whether they are disabled, and who is an operator."""
    headers = ("ADDRESS", "NAME", "ACCOUNT", "OPERATOR", "ORGS", "BROWSERS", "LAST SEEN")
    with current_context().database.reading() as session:
        first = service.search(session, utcnow(), search)
        others = (service.search(session, utcnow(), search, page=page) for page in range(2, first.pages + 1))
        table(headers, [_row(line) for page in (first, *others) for line in page.lines])


@users.command()
@click.argument("email")
def disable(email: str) -> None:
    """Keep the person with the address EMAIL out, beginning with every browser they are signed in with."""
    with current_context().database.transaction() as session:
        user = service.disable(session, service.get_by_email(session, email).id, utcnow(), actor=None)
    click.echo(f"The account of {user.email} is disabled, and every session of it has ended.")


@users.command()
@click.argument("email")
def enable(email: str) -> None:
    """Let the person with the address EMAIL in again."""
    with current_context().database.transaction() as session:
        user = service.enable(session, service.get_by_email(session, email).id, actor=None)
    click.echo(f"{user.email} can sign in again.")


@users.command("end-sessions")
@click.argument("email")
def end_sessions(email: str) -> None:
    """Sign the person with the address EMAIL out of every browser."""
    with current_context().database.transaction() as session:
        user = service.get_by_email(session, email)
        ended = service.end_sessions(session, user.id, utcnow(), actor=None)
    click.echo(f"{user.email} was signed out of {ended} browser{'' if ended == 1 else 's'}.")


@users.command()
@click.argument("email")
@click.option("--revoke", is_flag=True, help="Take the operators' rights away instead.")
def operator(email: str, revoke: bool) -> None:
    """Make the person with the address EMAIL, who has an account, an operator of the platform.

    Whether rights are given or taken, the person has to sign in anew. The last operator cannot be taken away.
    """
    change = service.revoke_operator if revoke else service.grant_operator
    with current_context().database.transaction() as session:
        user = change(session, service.get_by_email(session, email).id, utcnow(), actor=None)
    click.echo(f"{user.email} is {'no operator any more' if revoke else 'an operator now'}.")


def _row(line: AccountRow) -> tuple[object, ...]:
    user = line.user
    account = "disabled" if user.disabled_at else "active"
    role = "yes" if user.is_platform_admin else None
    return (user.email, user.name, account, role, line.orgs, line.browsers, line.last_seen_at)
