"""`flotilla users`: list, disable and enable accounts, end sessions, and manage operators."""

from __future__ import annotations

import click

from daemon.commands.output import print_table
from daemon.context import current_context
from portal.models import utcnow
from portal.services.account_changes import disabling
from portal.services.accounts import administration as service
from portal.services.accounts.administration import AccountRow


@click.group()
def users() -> None:
    """Manage user accounts."""


@users.command("list")
@click.option("--search", default="", help="Only users whose name or email contains this text.")
def list_(search: str) -> None:
    """List accounts with their state and sessions."""
    headers = ("EMAIL", "NAME", "ACCOUNT", "OPERATOR", "ORGS", "SESSIONS", "LAST SEEN")
    now = utcnow()
    with current_context().database.reading() as session:
        first = service.search(session, now, search)
        others = (service.search(session, now, search, page=page) for page in range(2, first.pages + 1))
        print_table(headers, [_row(line) for page in (first, *others) for line in page.lines])


@users.command()
@click.argument("email")
def disable(email: str) -> None:
    """Disable the account with the email EMAIL and end all its sessions."""
    with current_context().database.transaction() as session:
        user_id = service.get_by_email(session, email).id
        user = disabling.disable_account(session, user_id, utcnow(), actor=None)
    click.echo(f"Disabled the account {user.email} and ended all its sessions.")


@users.command()
@click.argument("email")
def enable(email: str) -> None:
    """Enable the account with the email EMAIL again."""
    with current_context().database.transaction() as session:
        user_id = service.get_by_email(session, email).id
        user = disabling.enable_account(session, user_id, utcnow(), actor=None)
    click.echo(f"Enabled the account {user.email}.")


@users.command("end-sessions")
@click.argument("email")
def end_sessions(email: str) -> None:
    """Sign out the account with the email EMAIL in all browsers."""
    with current_context().database.transaction() as session:
        user = service.get_by_email(session, email)
        ended = service.end_sessions(session, user.id, utcnow(), actor=None)
    click.echo(f"Ended {ended} session{'' if ended == 1 else 's'} of {user.email}.")


@users.command()
@click.argument("email")
@click.option("--revoke", is_flag=True, help="Remove the operator role instead.")
def operator(email: str, revoke: bool) -> None:
    """Make the existing account with the email EMAIL an operator.

    The change ends all sessions of the account. The last operator cannot be removed.
    """
    change = service.revoke_operator if revoke else service.grant_operator
    with current_context().database.transaction() as session:
        user = change(session, service.get_by_email(session, email).id, utcnow(), actor=None)
    click.echo(f"{user.email} is {'no longer an operator' if revoke else 'now an operator'}.")


def _row(line: AccountRow) -> tuple[object, ...]:
    user = line.user
    account = "disabled" if user.disabled_at else "active"
    role = "yes" if user.is_platform_admin else None
    return (user.email, user.name, account, role, line.orgs, line.browsers, line.last_seen_at)
