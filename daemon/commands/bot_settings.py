"""`flotilla bots label`, `channel`, `hold` and `unhold`: what operators decide about single bots."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from daemon.commands.bots import bots
from daemon.commands.output import print_text
from daemon.context import current_context
from portal.models import Channel, utcnow
from portal.services import lookup
from portal.services.bots import channels, holds, labels

__all__ = ["bots"]


@bots.command()
@click.argument("bot")
@click.argument("label", nargs=-1)
@click.option("--remove", "removed", multiple=True, metavar="LABEL", help="Remove this label. Can be repeated.")
def label(bot: str, label: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Add each LABEL to BOT (id, subdomain or name), and print all its labels."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        for text in removed:
            labels.remove_label(session, row, text, actor=None)
        for text in label:
            labels.add_label(session, row, text, actor=None)
        found = labels.load_labels(session, [row.id]).get(row.id, [])
    print_text(f"Labels of {row.name}: {', '.join(found) or 'none'}.")


@bots.command()
@click.argument("bot")
@click.argument("channel", type=click.Choice([channel.value for channel in Channel]))
def channel(bot: str, channel: str) -> None:
    """Move BOT (id, subdomain or name) to a release CHANNEL."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        channels.move_bot(session, row, Channel(channel), now=utcnow(), actor=None)
    print_text(f"{row.name} is in the channel {channel}.")


@bots.command()
@click.argument("bot")
@click.option("--until", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Day on which the hold ends, in UTC.")
@click.option("--reason", required=True, help="Why. Other operators will read it.")
def hold(bot: str, until: datetime, reason: str) -> None:
    """Leave BOT (id, subdomain or name) out of rollouts until a day, unless a rollout names it."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        holds.hold_updates(session, row, until.replace(tzinfo=UTC), reason, now=utcnow(), actor=None)
    print_text(f"Updates of {row.name} are on hold until {until:%Y-%m-%d}.")


@bots.command()
@click.argument("bot")
def unhold(bot: str) -> None:
    """End the hold of BOT (id, subdomain or name) now."""
    with current_context().database.transaction() as session:
        row = lookup.find_bot(session, bot)
        holds.end_hold(session, row, actor=None)
    print_text(f"Updates of {row.name} are no longer on hold.")
