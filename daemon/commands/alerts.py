"""`flotilla alerts`: list, add, test and delete the channels to which alerts are sent."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from daemon.commands.output import print_table, print_text
from daemon.context import current_context
from portal.models import AlertFormat
from portal.rules import alert_events
from portal.services.alerts import channel_list
from portal.services.alerts import channels as service
from portal.services.alerts.channel_spec import ChannelSpec
from portal.services.errors import InvalidError


@click.group()
def alerts() -> None:
    """Send alerts about events to chats, phones and programs."""


@alerts.command("list")
def list_() -> None:
    """List all channels with the number of messages that wait or were refused."""
    with current_context().database.reading() as session:
        print_table(
            ("NAME", "FORMAT", "RECEIVER", "EVENTS", "WAITING", "REFUSED", "PAUSED", "REASON"),
            [
                (
                    row.channel.name,
                    row.channel.format,
                    row.channel.host,
                    len(row.channel.tags),
                    row.waiting,
                    row.failed,
                    row.channel.paused_at,
                    row.channel.pause_reason,
                )
                for row in channel_list.list_channels(session)
            ],
        )


@alerts.command("events")
def list_events() -> None:
    """List the events about which alerts can be sent. A star marks those that a new channel gets by default."""
    rows = [
        (tag, "*" if tag in alert_events.TROUBLE else "", label)
        for group in alert_events.LABELS.values()
        for tag, label in group.items()
    ]
    print_table(("EVENT", "DEFAULT", "MEANING"), rows)


@alerts.command()
@click.argument("name")
@click.option(
    "--format",
    "kind",
    type=click.Choice([kind.value for kind in AlertFormat]),
    required=True,
    help="What the receiver understands.",
)
@click.option(
    "--url-file",
    type=click.Path(path_type=Path),
    required=True,
    help="File with the URL, or - for standard input. An argument would be visible to every user of this machine.",
)
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the access token of ntfy.")
@click.option(
    "--event", "tags", multiple=True, help="Event to send, repeatable.  [default: those that need attention]"
)
def add(name: str, kind: str, url_file: Path, token_file: Path | None, tags: tuple[str, ...]) -> None:
    """Add the channel NAME. For the format json, its signing secret is printed once."""
    spec = ChannelSpec(
        name,
        AlertFormat(kind),
        tags or sorted(alert_events.TROUBLE),
        _read(url_file),
        _read(token_file) if token_file else None,
    )
    with current_context().database.transaction() as session:
        channel = service.add(session, spec, actor=None)
        secret = channel.secret if channel.format is AlertFormat.JSON else None
    print_text(f"Added the channel {name}. Try it with: flotilla alerts test {name}", to_stderr=secret is not None)
    if secret is not None:
        print_text(secret)


@alerts.command()
@click.argument("name")
def test(name: str) -> None:
    """Send a test message to the channel NAME. A worker sends it within seconds."""
    with current_context().database.transaction() as session:
        service.send_test(session, service.get_by_name(session, name))
    print_text("Test message queued.")


@alerts.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete the channel NAME with its messages."""
    with current_context().database.transaction() as session:
        service.delete(session, service.get_by_name(session, name), actor=None)
    print_text(f"Deleted the channel {name}.")


def _read(path: Path) -> str:
    try:
        return (sys.stdin.read() if str(path) == "-" else path.read_text()).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidError(f"{path} cannot be read: {reason}.") from error
