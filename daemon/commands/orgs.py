"""`flotilla orgs`: the customers."""

from __future__ import annotations

import click

from daemon.commands.output import table
from daemon.context import current
from portal.services import founding


@click.group()
def orgs() -> None:
    """Organizations: the customers whose bots these are."""


@orgs.command("list")
def list_() -> None:
    """Show all organizations."""
    with current().database.reading() as session:
        table(
            ("SLUG", "NAME", "OWNER", "STATE", "SINCE"),
            [(org.slug, org.name, org.owner.email, org.state, org.created_at) for org in founding.every(session)],
        )


@orgs.command()
@click.argument("slug")
@click.option("--name", required=True, help="What people call the organization.")
@click.option("--owner", required=True, help="Email address of the person who owns it.")
def create(slug: str, name: str, owner: str) -> None:
    """Make an organization whose pages are found under SLUG."""
    with current().database.transaction() as session:
        org = founding.found(session, slug, name, owner)
    click.echo(f"Organization {org.slug} belongs to {owner} now.")
