"""`flotilla orgs`: the customers."""

from __future__ import annotations

import click

from daemon.commands.output import table
from daemon.context import current_context
from portal.models import TenantMode, utcnow
from portal.queue import JobName, enqueue, updates_queue_name
from portal.services.orgs import creation, org_deletion, org_list, update_preferences
from portal.services.orgs.org_list import OrgRow


@click.group()
def orgs() -> None:
    """Organizations: the customers whose bots these are."""


@orgs.command("list")
def list_() -> None:
    """Show all organizations but those that are gone for good, and how they are updated."""
    headers = ("SLUG", "NAME", "OWNER", "STATE", "PEOPLE", "BOTS", "UPDATES", "SINCE")
    with current_context().database.reading() as session:
        first = org_list.search_orgs(session)
        others = (org_list.search_orgs(session, page=page) for page in range(2, first.pages + 1))
        table(headers, [_row(line) for page in (first, *others) for line in page.lines])


@orgs.command()
@click.argument("slug")
@click.option("--name", required=True, help="What people call the organization.")
@click.option("--owner", required=True, help="Email address of the person who owns it.")
def create(slug: str, name: str, owner: str) -> None:
    """Make an organization whose pages are found under SLUG."""
    with current_context().database.transaction() as session:
        org = creation.create_org_for_email(session, slug, name, owner)
    click.echo(f"Organization {org.slug} belongs to {owner} now.")


@orgs.command()
@click.argument("slug")
def restore(slug: str) -> None:
    """Take the deletion of the organization SLUG back, while it can be; its bots start again."""
    context = current_context()
    with context.database.transaction() as session:
        org = org_list.get_by_slug(session, slug)
        bots = org_deletion.restore_as_operator(session, org, actor=None, now=utcnow())
    for bot in bots:
        enqueue(context.redis, JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))
    click.echo(f"Organization {slug} is restored; its bots start again.")


@orgs.command()
@click.argument("slug")
@click.option(
    "--mode", type=click.Choice([mode.value for mode in TenantMode]), help="Updated by itself, or by hand only."
)
@click.option("--hour", type=click.IntRange(0, 23), help="In which hour, in UTC; the one it has otherwise.")
@click.option("--lift", is_flag=True, help="Let the organization decide again.")
def override(slug: str, mode: str | None, hour: int | None, lift: bool) -> None:
    """Decide how the bots of the organization SLUG are updated, in its place.

    Its people see "managed by your provider" and cannot change it until that is lifted.
    """
    if lift == (mode is not None) or (lift and hour is not None):
        raise click.UsageError("Give either --mode, with or without --hour, or --lift.")
    with current_context().database.transaction() as session:
        org = org_list.get_by_slug(session, slug)
        if mode is None:
            update_preferences.lift_override(session, org, None)
        else:
            kept = update_preferences.get_preferences(session, org).hour_utc
            update_preferences.set_override(session, org, TenantMode(mode), kept if hour is None else hour, None)
    click.echo(f"Operators decide about updates of {slug} now." if mode else f"{slug} decides about updates again.")


def _row(line: OrgRow) -> tuple[object, ...]:
    org, wish = line.org, line.preferences
    updates = f"auto at {wish.hour_utc:02}:00" if wish.mode is TenantMode.AUTO else "manual"
    if wish.overridden_by_operator:
        updates += ", by operators"
    return (org.slug, org.name, org.owner.email, org.state, line.people, line.bots, updates, org.created_at)
