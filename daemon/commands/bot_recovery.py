"""`flotilla bots recover` and `clear`: what operators do with bots whose rollback failed."""

from __future__ import annotations

import time

import click

from daemon.commands.bots import bots
from daemon.commands.output import print_text
from daemon.context import current_context
from portal.database import Database
from portal.models import Bot, BotUpdate, UpdateState, utcnow
from portal.queue import JobName, enqueue, updates_queue_name
from portal.services import lookup
from portal.services.bots import attention
from portal.services.rollouts import failed_rollbacks

__all__ = ["bots"]

_REFRESH_SECONDS = 0.5


@bots.command()
@click.argument("bot")
@click.option("--follow", "following", is_flag=True, help="Wait until the rollback has ended, and show the result.")
@click.confirmation_option(
    "--yes",
    prompt="The bot gets the data from before the update; what was written since is lost. Continue?",
    help="Do not ask for confirmation.",
)
def recover(bot: str, following: bool) -> None:
    """Continue the failed rollback of BOT (id, subdomain or name). A worker does it in the background.

    Solve the problem first, for example free some space on the node. With --follow, the exit code is 1 if the bot
    still needs attention afterwards.
    """
    context = current_context()
    with context.database.transaction() as session:
        row = lookup.find_bot(session, bot)
        update = failed_rollbacks.request(session, row, now=utcnow(), actor=None)
    enqueue(context.redis, JobName.UPDATE_BOT, update.id, queue=updates_queue_name(row.node_id))
    print_text(f"Continuing the rollback of {row.name}.")
    if following:
        _follow(context.database, update.id)


@bots.command()
@click.argument("bot")
@click.option("--reason", required=True, help="What you did about the problem. It is shown in the audit log.")
def clear(bot: str, reason: str) -> None:
    """Mark BOT (id, subdomain or name) as repaired, so that it can be updated again.

    The bot itself is not changed: a failed rollback is not continued, and its snapshots are kept.
    """
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        attention.clear_attention(session, row, reason, actor=None)
    click.echo(f"{row.name} can be updated again.")


def _follow(database: Database, update_id: str) -> None:
    """Wait until a continued rollback has ended, and print the result.

    Raises:
        Exit: with code 1 if the bot still needs attention.
    """
    while (bot := _find_result(database, update_id)) is None:
        time.sleep(_REFRESH_SECONDS)
    if bot.needs_attention is not None:
        print_text(bot.needs_attention, to_stderr=True)
        raise click.exceptions.Exit(1)
    print_text(f"{bot.name} was recovered: its rollback is complete.")


def _find_result(database: Database, update_id: str) -> Bot | None:
    """Return the bot of an update that has ended, or None."""
    with database.reading() as session:
        update = session.get_one(BotUpdate, update_id)
        return None if update.state is UpdateState.RUNNING else update.bot
