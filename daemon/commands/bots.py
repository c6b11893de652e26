"""`flotilla bots`: the containers of the customers."""

from __future__ import annotations

import click

from daemon.bots.adopt import Adoption, AdoptOptions
from daemon.bots.adopt import adopt as adopt_container
from daemon.bots.adopt import attach as attach_container
from daemon.commands.output import digest, table
from daemon.commands.rollouts import follow
from daemon.context import current_context
from portal.models import Channel, Trigger
from portal.rules.allowlist import Allowlist
from portal.services import lookup
from portal.services.bots import attention, bot_list
from portal.services.bots.bot_list import BotRow
from portal.services.releases import releases
from portal.services.rollouts import rollouts
from portal.services.rollouts.rollouts import NothingToDoError


@click.group()
def bots() -> None:
    """Bots: the containers of the customers."""


@bots.command("list")
@click.option("--search", default="", help="Only those whose name, organization, node or image has this in it.")
def list_(search: str) -> None:
    """Show the bots, what they run and whether they are behind."""
    headers = ("ID", "BOT", "SUBDOMAIN", "ORG", "NODE", "STATE", "RUNS", "BEHIND", "IMAGE")
    with current_context().database.reading() as session:
        first = bot_list.search_bots(session, search)
        pages = [first, *(bot_list.search_bots(session, search, page=page) for page in range(2, first.pages + 1))]
        table(headers, [_row(line) for page in pages for line in page.lines])


@bots.command()
@click.argument("container")
@click.option("--org", required=True, help="Slug of the organization that owns it.")
@click.option("--node", required=True, help="Name of the node it runs on.")
@click.option("--image", help="The image to follow, with its tag, where the container's own has none.")
@click.option("--name", help="What people call the bot; the container's name otherwise.")
@click.option("--subdomain", help="Where it is opened; made of its name otherwise.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port it listens on inside the container.")
@click.option("--health-path", default="/health", show_default=True, help="Where it says how it is.")
@click.option(
    "--channel",
    type=click.Choice([channel.value for channel in Channel]),
    default=Channel.STABLE.value,
    show_default=True,
    help="How often its image is polled, and whether it goes first.",
)
def adopt(container: str, org: str, node: str, channel: str, **options: str | int | None) -> None:
    """Take the existing CONTAINER (name or id) under management, without touching it."""
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
    click.echo(f"{adoption.bot.name} is a bot of {org} now; its id is {adoption.bot.id}.")


@bots.command()
@click.argument("bot")
@click.argument("container")
def attach(bot: str, container: str) -> None:
    """Let BOT (id, subdomain or name), whose container is gone, go on in CONTAINER (name or id), made in its place.

    It runs on the bot's node, with the bot's volumes; nothing is done to it.
    """
    context = current_context()
    attached = attach_container(context.database, context.settings, bot, container)
    _warn(attached)
    click.echo(f"{attached.bot.name} goes on in the container {attached.bot.container_name}.")


@bots.command()
@click.argument("bot")
@click.option("--follow", "following", is_flag=True, help="Wait and show the progress until it ended.")
def update(bot: str, following: bool) -> None:
    """Update BOT (id, subdomain or name) to the release its image points at, whatever the hour."""
    context = current_context()
    with context.database.transaction() as session:
        row = lookup.find_bot(session, bot)
        target = releases.find_target(session, row.image)
        if target is None:
            raise NothingToDoError(f"No release is known for {row.image}, or the newest is quarantined.")
        allowlist = Allowlist.parse(context.settings.fleet_image_allowlist)
        rollout = rollouts.update_now(
            session, allowlist, bot=row, digest=target.digest, actor=None, trigger=Trigger.OPERATOR
        )
    click.echo(f"{row.name} is being updated to {target.version} by rollout {rollout.id}.")
    if following:
        follow(context.database, rollout.id)


@bots.command()
@click.argument("bot")
@click.option("--reason", required=True, help="What was done about it, in words that people will read.")
def clear(bot: str, reason: str) -> None:
    """Let updates take BOT (id, subdomain or name) again, which needed attention and was put right by hand.

    Nothing else happens to it: a rollback that failed is not carried on, and its archives stay.
    """
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        attention.clear_attention(session, row, reason, None)
    click.echo(f"{row.name} takes part in updates again.")


def _warn(adoption: Adoption) -> None:
    for warning in adoption.warnings:
        click.echo(f"Note: {warning}", err=True)


def _row(line: BotRow) -> tuple[object, ...]:
    bot = line.bot
    runs = line.runs.version if line.runs else digest(bot.current_digest)
    state = "needs attention" if bot.needs_attention else bot.state
    behind = line.behind.version if line.behind else None
    return (bot.id, bot.name, bot.subdomain, bot.org.slug, bot.node.name, state, runs, behind, bot.image)
