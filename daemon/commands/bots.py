"""`flotilla bots`: list, adopt, attach and update bots. Other modules add commands."""

from __future__ import annotations

import click

from daemon.bots.adopt import adopt as adopt_container
from daemon.bots.attach import attach as attach_container
from daemon.bots.inspection import Adoption, AdoptOptions
from daemon.commands.output import print_table, print_text, shorten_digest
from daemon.commands.rollouts import follow
from daemon.context import current_context
from portal.models import BotPhase, Channel, Trigger, utcnow
from portal.rules.allowlist import Allowlist
from portal.services import lookup
from portal.services.bots import fleet_search
from portal.services.bots.bot_list import BotRow
from portal.services.bots.fleet_search import FleetFilter
from portal.services.releases import releases
from portal.services.rollouts import rollouts
from portal.services.rollouts.selection import NothingToDoError


@click.group()
def bots() -> None:
    """Manage bots, the customers' containers."""


@bots.command("list")
@click.option("--search", default="", help="Only bots whose name, organization, node or image contains this text.")
@click.option("--label", default="", help="Only bots with this label.")
def list_(search: str, label: str) -> None:
    """List bots with their versions and available updates."""
    headers = ("ID", "BOT", "SUBDOMAIN", "ORG", "NODE", "STATE", "VERSION", "UPDATE", "IMAGE")
    with current_context().database.reading() as session:
        found = fleet_search.list_all(session, FleetFilter(text=search, label=label), utcnow())
        print_table(headers, [_row(line) for line in found])


@bots.command()
@click.argument("container")
@click.option("--org", required=True, help="URL name of the organization that owns the bot.")
@click.option("--node", required=True, help="Name of the node that runs the container.")
@click.option("--image", help="Image with tag to follow, if the container's image has no tag.")
@click.option("--name", help="Name of the bot. Default: the container's name.")
@click.option("--subdomain", help="Subdomain of the bot. Default: made from its name.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port on which the bot listens inside the container.")
@click.option("--health-path", default="/health", show_default=True, help="Path of the health check.")
@click.option(
    "--channel",
    type=click.Choice([channel.value for channel in Channel]),
    default=Channel.STABLE.value,
    show_default=True,
    help="Release channel: how often the image is polled and which bots are updated first.",
)
def adopt(container: str, org: str, node: str, channel: str, **options: str | int | None) -> None:
    """Add the existing CONTAINER (name or id) as a bot. The container is not changed."""
    context = current_context()
    adoption = adopt_container(
        context.database,
        context.settings,
        container,
        node=node,
        org=org,
        options=AdoptOptions(channel=Channel(channel), **options),  # type: ignore[arg-type]
    )
    _warn(adoption)
    click.echo(f"Added {adoption.bot.name} to {org}. Its id is {adoption.bot.id}.")


@bots.command()
@click.argument("bot")
@click.argument("container")
def attach(bot: str, container: str) -> None:
    """Assign the new CONTAINER (name or id) to BOT (id, subdomain or name), whose old container no longer exists.

    The container must be on the bot's node and use the bot's volumes. It is not changed.
    """
    context = current_context()
    attached = attach_container(context.database, context.settings, bot, container)
    _warn(attached)
    click.echo(f"{attached.bot.name} now uses the container {attached.bot.container_name}.")


@bots.command()
@click.argument("bot")
@click.option("--follow", "following", is_flag=True, help="Show the progress and wait until the update has ended.")
def update(bot: str, following: bool) -> None:
    """Update BOT (id, subdomain or name) to the current release of its image now, ignoring the update hour."""
    context = current_context()
    with context.database.transaction() as session:
        row = lookup.find_bot(session, bot)
        target = releases.find_target(session, row.image)
        if target is None:
            raise NothingToDoError(
                f"No update for {row.image}: no release is known, or the current one is quarantined."
            )
        allowlist = Allowlist.parse(context.settings.fleet_image_allowlist)
        rollout = rollouts.update_now(
            session, allowlist, utcnow(), bot=row, digest=target.digest, actor=None, trigger=Trigger.OPERATOR
        )
    click.echo(f"Updating {row.name} to {target.version} with rollout {rollout.id}.")
    if following:
        follow(context.database, rollout.id)


def _warn(adoption: Adoption) -> None:
    for warning in adoption.warnings:
        print_text(f"Note: {warning}", to_stderr=True)


def _row(line: BotRow) -> tuple[object, ...]:
    bot = line.bot
    runs = line.runs.version if line.runs else shorten_digest(bot.current_digest)
    state = "needs attention" if bot.needs_attention else bot.state if bot.phase is BotPhase.ACTIVE else bot.phase
    available = line.available.version if line.available else None
    return (bot.id, bot.name, bot.subdomain, bot.org.slug, bot.node.name, state, runs, available, bot.image)
