"""`flotilla bots create`, `retry`, `start`, `stop`, `restart`, `logs`, `remove` and `restore`: the life of bots."""

from __future__ import annotations

import time

import click

from daemon.bots import bot_logs
from daemon.commands.bots import bots
from daemon.commands.output import print_text
from daemon.context import current_context
from daemon.engine.container_logs import LogLine
from portal.live_readings import Reading
from portal.models import Bot, utcnow
from portal.queue import CREATIONS_QUEUE, JobName, enqueue, updates_queue_name
from portal.rules.allowlist import Allowlist
from portal.services import lookup
from portal.services.bots import bots as service
from portal.services.bots import creation, nodes, removal, start_stop
from portal.services.bots.creation import BotOptions
from portal.services.bots.start_stop import Operation

__all__ = ["bots"]

_FOLLOW_SECONDS = 2

_reason_option = click.option("--reason", default="", help="Why, for the events that people of the bot read.")


@bots.command()
@click.option("--org", required=True, help="URL name of the organization that owns the bot.")
@click.option("--node", help="Name of the node. Default: the active node with the fewest bots.")
@click.option("--name", help="Name of the bot. Default: the name of the organization.")
@click.option("--subdomain", help="Subdomain of the bot. Default: made from the organization's URL name.")
def create(org: str, node: str | None, name: str | None, subdomain: str | None) -> None:
    """Create a bot from the template. A worker starts its container in the background."""
    context = current_context()
    with context.database.transaction() as session:
        options = BotOptions(node=nodes.get_by_name(session, node) if node else None, name=name, subdomain=subdomain)
        owner = service.require_active_org(session, org)
        bot = creation.create_bot(session, _allowlist(), owner, options, now=utcnow())
        place = f"on node {bot.node.name}"
    enqueue(context.redis, JobName.CREATE_BOT, bot.id, queue=CREATIONS_QUEUE)
    print_text(f"Creating {bot.name} {place}. Its subdomain is {bot.subdomain}, its id {bot.id}.")


@bots.command()
@click.argument("bot")
def retry(bot: str) -> None:
    """Create BOT (id, subdomain or name) again at once, with the current template, after its creation failed."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        creation.retry_creation(session, _allowlist(), row, now=utcnow(), actor=None)
    enqueue(current_context().redis, JobName.CREATE_BOT, row.id, queue=CREATIONS_QUEUE)
    print_text(f"Creating {row.name} again.")


@bots.command()
@click.argument("bot")
@_reason_option
def start(bot: str, reason: str) -> None:
    """Start BOT (id, subdomain or name), which was stopped. A worker does it in the background."""
    print_text(f"Starting {_request(bot, Operation.START, reason).name}.")


@bots.command()
@click.argument("bot")
@_reason_option
def stop(bot: str, reason: str) -> None:
    """Stop BOT (id, subdomain or name) until it is started again. A worker does it in the background."""
    print_text(f"Stopping {_request(bot, Operation.STOP, reason).name}.")


@bots.command()
@click.argument("bot")
@_reason_option
def restart(bot: str, reason: str) -> None:
    """Stop BOT (id, subdomain or name) and start it again. A worker does it in the background."""
    print_text(f"Restarting {_request(bot, Operation.RESTART, reason).name}.")


@bots.command()
@click.argument("bot")
@click.option("--lines", type=click.IntRange(1, 20_000), default=100, show_default=True, help="How many lines.")
@click.option("--follow", "following", is_flag=True, help="Print new lines until Ctrl-C.")
def logs(bot: str, lines: int, following: bool) -> None:
    """Print the latest lines of the log of BOT (id, subdomain or name), with *** instead of secrets."""
    database = current_context().database
    with database.reading() as session:
        bot_id = lookup.find_bot(session, bot).id
    printed: set[LogLine] = set()
    while True:
        log = bot_logs.read(database, bot_id, lines, bot_logs.SIZES[Reading.LONG_LOG][1])
        for line in log:
            if line not in printed:
                print_text(_format_line(line))
        if not following:
            return
        printed = set(log)
        time.sleep(_FOLLOW_SECONDS)


@bots.command()
@click.argument("bot")
@click.option("--keep-data/--delete-data", default=None, help="Whether its volumes stay on the node. Required.")
@click.option("--now", "immediately", is_flag=True, help="Remove it at once, without the grace period of 7 days.")
def remove(bot: str, keep_data: bool | None, immediately: bool) -> None:
    """Stop BOT (id, subdomain or name) now, and remove it after 7 days.

    Until then, `flotilla bots restore` brings the bot back.
    """
    if keep_data is None:
        raise click.UsageError("Choose what happens to the data: --keep-data or --delete-data.")
    now = utcnow()
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        removal.request_removal(session, row, keep_data=keep_data, immediately=immediately, now=now, actor=None)
    _enqueue_desired_state(row)
    fate = "Its volumes are kept." if keep_data else "Its data is deleted with it."
    when = "as soon as it has stopped" if immediately else f"after {row.remove_after:%Y-%m-%d %H:%M} UTC"
    print_text(f"Removing {row.name} {when}. {fate}")


@bots.command()
@click.argument("bot")
def restore(bot: str) -> None:
    """Cancel the removal of BOT (id, subdomain or name) within its grace period."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        removal.restore_bot(session, row, now=utcnow(), actor=None)
    _enqueue_desired_state(row)
    print_text(f"Restored {row.name}.")


def _format_line(line: LogLine) -> str:
    return f"{line.at} {line.text}" if line.at else line.text


def _request(bot: str, operation: Operation, reason: str) -> Bot:
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        start_stop.request(session, row, operation, now=utcnow(), actor=None, reason=reason)
    _enqueue_desired_state(row)
    return row


def _allowlist() -> Allowlist:
    return Allowlist.parse(current_context().settings.fleet_image_allowlist)


def _enqueue_desired_state(bot: Bot) -> None:
    queue = updates_queue_name(bot.node_id)
    enqueue(current_context().redis, JobName.APPLY_DESIRED_STATE, bot.id, queue=queue)
