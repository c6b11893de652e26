"""`flotilla snapshots`: list and delete snapshots of volumes."""

from __future__ import annotations

import click

from daemon.commands.output import print_table
from daemon.context import current_context
from daemon.snapshots import deletion
from portal.models import Bot, Snapshot
from portal.services.bots import snapshots as service


@click.group()
def snapshots() -> None:
    """Manage snapshots, the archives of volumes on the nodes' disks.

    An update deletes its snapshots when it has ended. Those of a bot that needs attention stay until you delete them.
    """


@snapshots.command("list")
def list_() -> None:
    """List all snapshots that have not been deleted."""
    with current_context().database.reading() as session:
        rows = [_row(snapshot, bot) for snapshot, bot in service.list_kept(session)]
    print_table(("ID", "BOT", "ORG", "NODE", "VOLUME", "STATE", "BYTES", "TAKEN", "ARCHIVE"), rows)


@snapshots.command()
@click.argument("snapshot_ids", metavar="SNAPSHOT...", nargs=-1, required=True)
def delete(snapshot_ids: tuple[str, ...]) -> None:
    """Delete snapshots from their nodes' disks. Snapshots that an update or a repair may need cannot be deleted."""
    context = current_context()
    for snapshot_id in snapshot_ids:
        row = deletion.delete_snapshot(context.database, context.settings, snapshot_id)
        click.echo(f"Deleted {row.archive}.")


def _row(row: Snapshot, bot: Bot) -> tuple[object, ...]:
    location = (bot.name, bot.org.slug, bot.node.name, row.volume)
    return (row.id, *location, row.state, row.size, row.created_at, row.archive)
