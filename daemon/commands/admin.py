"""`flotilla admin`: the people who run the platform."""

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
    """Operators: the people who run the platform."""


@admin.command()
@click.argument("email")
@click.option("--name", required=True, help="How pages and logs call the operator.")
@click.option(
    "--password-file",
    type=click.File(),
    help="Read the password from the first line of this file; - is standard input.",
)
def create(email: str, name: str, password_file: TextIO | None) -> None:
    """Make an account for an operator who signs in with EMAIL.

    The password is asked for twice at a terminal and read from standard input otherwise.
    """
    password = _read_password(password_file, current_context().settings.product_name, email, name)
    hashed = hash_password(password)
    with current_context().database.transaction() as session:
        user = accounts.create_operator(session, email, name, hashed)
    click.echo(f"{user.email} can sign in as an operator now.")


def _read_password(file: TextIO | None, *names: str) -> str:
    if file is None and sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = (file or sys.stdin).readline().rstrip("\r\n")
    if problem := password_policy.find_problem(password, names=names):
        raise click.UsageError(problem)
    return password
