"""`flotilla snapshots`: the archives of volumes that are still on the nodes' disks."""

from __future__ import annotations

import click

from daemon.commands.output import table
from daemon.context import current_context
from daemon.snapshots import deletion
from portal.models import Bot, Snapshot
from portal.services.bots import snapshots as service


@click.group()
def snapshots() -> None:
    """Snapshots: archives of volumes that are still on the nodes' disks.

    An update deletes its own when it has ended. Those of a bot that needed a person stay until somebody deletes them.
    """


@snapshots.command("list")
def list_() -> None:
    """Show every archive, whose it is and where."""
    with current_context().database.reading() as session:
        rows = [_row(snapshot, bot) for snapshot, bot in service.list_kept(session)]
    table(("ID", "BOT", "ORG", "NODE", "VOLUME", "STATE", "BYTES", "TAKEN", "ARCHIVE"), rows)


@snapshots.command()
@click.argument("snapshot_ids", metavar="SNAPSHOT...", nargs=-1, required=True)
def delete(snapshot_ids: tuple[str, ...]) -> None:
    """Delete archives from their nodes' disks, for good. Refused while an update or a person may need them."""
    context = current_context()
    for snapshot_id in snapshot_ids:
        row = deletion.delete_snapshot(context.database, context.settings, snapshot_id)
        click.echo(f"{row.archive} is deleted.")


def _row(row: Snapshot, bot: Bot) -> tuple[object, ...]:
    whose = (row.id, bot.name, bot.org.slug, bot.node.name, row.volume)
    return (*whose, row.state, row.size, row.created_at, row.archive)
