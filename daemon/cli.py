"""The `flotilla` command: its subcommands and the translation of errors. Used by operators on the server.

Each error is one line that says what to do. The exit code is 1 for refused operations and 2 for invalid input.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

import click

from daemon.commands.exit_codes import BadInput
from portal.data_dir import restrict_new_files
from portal.rules.outside_text import contains_unstorable
from portal.services.events import acting_via

_PROCESSES = ("worker", "scheduler", "gateway", "redis")
_COMMANDS = {
    "admin": ("admin:admin",),
    "alerts": ("alerts:alerts",),
    "bots": ("bots:bots", "bot_lifecycle:bots", "bot_recovery:bots", "bot_settings:bots", "bot_syncs:bots"),
    "conformance": ("conformance:conformance",),
    "doctor": ("doctor:doctor",),
    "gateway": ("gateway:gateway",),
    "nodes": ("nodes:nodes",),
    "orgs": ("orgs:orgs",),
    "redis": ("redis:redis",),
    "releases": ("releases:releases",),
    "restored": ("restored:restored",),
    "rollouts": ("rollouts:rollouts",),
    "scheduler": ("scheduler:scheduler",),
    "snapshots": ("snapshots:snapshots",),
    "sync": ("bot_syncs:sync_group",),
    "template": ("template:template",),
    "upstream": ("upstream:upstream",),
    "users": ("users:users",),
    "worker": ("worker:worker",),
}
"""The modules of `daemon.commands` and the name in each that define a subcommand. Only the one that runs is imported,
because importing all of them takes a second."""


class Flotilla(click.Group):
    """The command group. It imports subcommands on first use and translates errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand; None if there is no such subcommand."""
        command = None
        with _collecting_no_garbage():
            for place in _COMMANDS.get(cmd_name, ()):
                command = resolve_name(f"daemon.commands.{place}")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            BadInput: an argument contains characters that no text of Flotilla can contain.
        """
        # Bytes that are not UTF-8 arrive as lone surrogates, which databases refuse.
        if any(contains_unstorable(argument) for argument in args):
            raise BadInput("An argument is not valid UTF-8 text. Check the encoding of your terminal.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand.

        Raises:
            Refused: any error that is neither invalid input nor handled by click.
            BadInput: the input is invalid.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            from daemon.commands.errors import to_click_error  # noqa: PLC0415 - imports all libraries that raise errors

            raise to_click_error(error) from error


@click.group(cls=Flotilla)
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:  # noqa: ARG001 - `Flotilla.invoke` reads it
    """Flotilla updates a fleet of customers' bots to new images without losing their data.

    All commands use the same environment variables as the portal, for example DATABASE_URL and SECRET_KEY.
    """
    previous_umask = restrict_new_files()
    ctx.call_on_close(lambda: os.umask(previous_umask))
    # Processes act automatically, so their events must not carry "command line".
    if ctx.invoked_subcommand not in _PROCESSES:
        token = acting_via.set("command line")
        ctx.call_on_close(lambda: acting_via.reset(token))


@contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    """Import without garbage collections: they take a fifth of the time, and modules are no garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


if __name__ == "__main__":
    main(prog_name="flotilla")
