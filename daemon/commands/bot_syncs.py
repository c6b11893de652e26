"""`flotilla bots provision`, `rotate-secret`, `budget` and `sync`, and `flotilla sync status`: members in bots."""

from __future__ import annotations

from typing import TextIO

import click

from daemon.commands.bots import bots
from daemon.commands.output import print_table, print_text
from daemon.context import current_context
from portal.models import utcnow
from portal.services import lookup
from portal.services.syncs import operations, provision_secrets, provisioning, sync_list
from portal.services.syncs.sync_list import BotSyncRow, SyncFilter

_SECRET_FILE = click.option(
    "--secret-file",
    type=click.File(),
    help="File with the secret; - reads it from standard input. A secret as an argument would be visible to others.",
)


@bots.command()
@click.argument("bot")
@click.option("--company", help="The bot's id of an existing company. Default: Flotilla provisions one.")
@_SECRET_FILE
def provision(bot: str, company: str | None, secret_file: TextIO | None) -> None:
    """Let BOT (id, subdomain or name) get its members from Flotilla.

    The bot must know the secret already. Without --secret-file, the stored secret stays. Until the bot has confirmed
    a member, this member cannot open the bot.
    """
    secret = _read_secret(secret_file)
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        provisioning.provision_bot(session, row, secret, company_id=company, now=utcnow(), actor=None)
    what = f"Members are sent to company {company} of" if company else "A company is provisioned in"
    print_text(f"{what} {row.name}. Members can open the bot when it has confirmed them.")
    print_text("`flotilla sync status` shows the progress.")


@bots.command("rotate-secret")
@click.argument("bot")
@_SECRET_FILE
def rotate_secret(bot: str, secret_file: TextIO | None) -> None:
    """Begin to replace the secret of BOT (id, subdomain or name). Both secrets are valid until the bot has the next.

    A bot that Flotilla created gets a new secret with its next update. For an adopted bot, name the next secret with
    --secret-file and set it in the container.
    """
    secret = _read_secret(secret_file)
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        provision_secrets.begin_rotation(session, row, secret, actor=None)
    way = "when its container has it" if secret else "with its next update"
    print_text(f"{row.name} gets its next secret {way}. Until then, the current one is used.")


@bots.command()
@click.argument("bot")
@click.option("--cents", type=click.IntRange(0), required=True, help="Monthly budget of the company, in cents.")
@click.option("--per-agent", type=click.IntRange(0), help="Monthly budget of each agent, in cents. Default: none.")
def budget(bot: str, cents: int, per_agent: int | None) -> None:
    """Set the budget of BOT (id, subdomain or name)."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        operations.set_budget(session, row, cents, per_agent, actor=None)
    print_text(f"The budget of {row.name} is {cents} cents per month. It is sent to the bot now.")


@bots.command("sync")
@click.argument("bot")
@click.option("--allow-removals", is_flag=True, help="Only remove the unknown members whose removal was refused.")
def sync_bot(bot: str, allow_removals: bool) -> None:
    """Send all members to BOT (id, subdomain or name) again and compare them, as after a restore of its data."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        if allow_removals:
            number = operations.allow_removals(session, row, actor=None)
            text = f"Up to {number} unknown members are removed from {row.name} now."
        else:
            operations.resync_bot(session, row, utcnow(), actor=None)
            text = f"All members are sent to {row.name} again."
    print_text(f"{text} `flotilla sync status` shows the progress.")


@click.group("sync")
def sync_group() -> None:
    """Show how far members have been carried into bots."""


@sync_group.command()
@click.option("--search", default="", help="Only bots whose name, organization or error contains this text.")
def status(search: str) -> None:
    """List bots with their members, those that need help first."""
    headers = (
        "BOT",
        "ORG",
        "SYNC",
        "MEMBERS",
        "IN BOT",
        "PENDING",
        "BLOCKED",
        "OLDEST",
        "ATTEMPTS",
        "DRIFT",
        "ERROR",
    )
    with current_context().database.reading() as session:
        wanted = SyncFilter(text=search)
        first = sync_list.search_syncs(session, wanted)
        others = [sync_list.search_syncs(session, wanted, page) for page in range(2, first.pages + 1)]
        print_table(headers, [_describe(line) for page in (first, *others) for line in page.lines])


def _read_secret(file: TextIO | None) -> str | None:
    """Read the secret. Call this outside of transactions, because standard input may be slow."""
    return file.read().strip() if file else None


def _describe(line: BotSyncRow) -> tuple[object, ...]:
    bot, drift = line.bot, line.sync.drift_count if line.sync else 0
    counts = (line.desired, line.observed, line.pending, line.blocked, line.oldest, line.attempts, drift)
    shown: tuple[object, ...] = counts if line.connection.is_connected else (None,) * len(counts)
    error = line.error
    if line.refused_removals:
        error = f"{line.refused_removals} unknown members were not removed; run flotilla bots sync --allow-removals"
    return (bot.name, bot.org.slug, line.state, *shown, error)
