"""`flotilla admin`: create operator accounts."""

from __future__ import annotations

import sys
from typing import TextIO

import click

from daemon.context import current_context
from portal.password_hashing import hash_password
from portal.rules import password_policy
from portal.services.accounts import accounts


@click.group()
def admin() -> None:
    """Create operators, who run the platform."""


@admin.command()
@click.argument("email")
@click.option("--name", required=True, help="The operator's name on pages and in the audit log.")
@click.option(
    "--password-file",
    type=click.File(),
    help="Read the password from the first line of this file; - means standard input.",
)
def create(email: str, name: str, password_file: TextIO | None) -> None:
    """Create the account of an operator who signs in with EMAIL.

    At a terminal you are asked for the password twice; otherwise it is read from standard input.
    """
    password = _read_password(password_file, current_context().settings.product_name, email, name)
    password_hash = hash_password(password)
    with current_context().database.transaction() as session:
        user = accounts.create_operator(session, email, name, password_hash)
    click.echo(f"Created the operator {user.email}.")


def _read_password(file: TextIO | None, *names: str) -> str:
    if file is None and sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = (file or sys.stdin).readline().rstrip("\r\n")
    if problem := password_policy.find_problem(password, names=names):
        raise click.UsageError(problem)
    return password
