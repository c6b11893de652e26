"""`flotilla orgs`: list, create and restore organizations, and manage their updates."""

from __future__ import annotations

import click

from daemon.commands.output import print_table
from daemon.context import current_context
from portal.models import TenantMode, utcnow
from portal.queue import JobName, enqueue, updates_queue_name
from portal.services.orgs import creation, org_deletion, org_list, update_preferences
from portal.services.orgs.org_list import OrgRow


@click.group()
def orgs() -> None:
    """Manage organizations, the customers who own bots."""


@orgs.command("list")
def list_() -> None:
    """List all organizations that are not deleted, with their update settings."""
    headers = ("SLUG", "NAME", "OWNER", "STATE", "MEMBERS", "BOTS", "UPDATES", "CREATED")
    with current_context().database.reading() as session:
        first = org_list.search_orgs(session)
        others = (org_list.search_orgs(session, page=page) for page in range(2, first.pages + 1))
        print_table(headers, [_row(line) for page in (first, *others) for line in page.lines])


@orgs.command()
@click.argument("slug")
@click.option("--name", required=True, help="Name of the organization.")
@click.option("--owner", required=True, help="Email address of the owner.")
def create(slug: str, name: str, owner: str) -> None:
    """Create an organization with the URL name SLUG."""
    with current_context().database.transaction() as session:
        org = creation.create_org_for_email(session, slug, name, owner, now=utcnow())
    click.echo(f"Created the organization {org.slug}, owned by {owner}.")


@orgs.command()
@click.argument("slug")
def restore(slug: str) -> None:
    """Cancel the deletion of the organization SLUG before its deadline. Its bots start again."""
    context = current_context()
    with context.database.transaction() as session:
        org = org_list.get_by_slug(session, slug)
        bots = org_deletion.restore_as_operator(session, org, actor=None, now=utcnow())
    for bot in bots:
        enqueue(context.redis, JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))
    click.echo(f"Restored the organization {slug}. Its bots are starting again.")


@orgs.command()
@click.argument("slug")
@click.option("--mode", type=click.Choice([mode.value for mode in TenantMode]), help="Automatic or manual updates.")
@click.option("--hour", type=click.IntRange(0, 23), help="Hour of automatic updates in UTC. Default: unchanged.")
@click.option("--lift", is_flag=True, help="Return control to the organization.")
def override(slug: str, mode: str | None, hour: int | None, lift: bool) -> None:
    """Manage the update settings for the organization SLUG.

    Its members see "managed by your provider" and cannot change the settings until you return control with --lift.
    """
    if lift == (mode is not None) or (lift and hour is not None):
        raise click.UsageError("Use either --mode, optionally with --hour, or --lift.")
    with current_context().database.transaction() as session:
        org = org_list.get_by_slug(session, slug)
        if mode is None:
            update_preferences.lift_override(session, org, actor=None, now=utcnow())
        else:
            kept = update_preferences.get_preferences(session, org).hour_utc
            hour = kept if hour is None else hour
            update_preferences.set_override(session, org, TenantMode(mode), hour, actor=None, now=utcnow())
    click.echo(f"Operators now manage the updates of {slug}." if mode else f"{slug} now manages its own updates.")


def _row(line: OrgRow) -> tuple[object, ...]:
    org, preferences = line.org, line.preferences
    updates = f"auto at {preferences.hour_utc:02}:00" if preferences.mode is TenantMode.AUTO else "manual"
    if preferences.overridden_by_operator:
        updates += ", managed by operators"
    return (org.slug, org.name, org.owner.email, org.state, line.people, line.bots, updates, org.created_at)
