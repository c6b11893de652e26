"""The `flotilla` command: its subcommands and the translation of errors. Used by operators on the server.

Each error is one line that says what to do. The exit code is 1 for refused operations and 2 for invalid input.
"""

from __future__ import annotations

import os
from typing import Any

import click
from docker.errors import DockerException
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from daemon.commands import (
    admin,
    alerts,
    bot_lifecycle,
    bot_recovery,
    bot_syncs,
    conformance,
    doctor,
    nodes,
    orgs,
    processes,
    releases,
    restored,
    rollouts,
    snapshots,
    template,
    upstream,
    users,
)
from daemon.embedded_redis import CannotStartRedis
from daemon.errors import OperationFailed
from portal.data_dir import restrict_new_files
from portal.database import is_locked
from portal.rules.allowlist import ImageNotAllowed
from portal.rules.outside_text import clean_text, contains_unstorable
from portal.rules.references import InvalidReference
from portal.services.errors import InvalidError, ServiceError
from portal.services.events import acting_via
from portal.settings import SettingsError

_MAX_CHARACTERS = 10_000
_PROCESSES = (processes.worker, processes.scheduler, processes.gateway, processes.redis)


class Refused(click.ClickException):
    """The input is valid, but the operation is not possible or not allowed."""

    exit_code = 1


class BadInput(click.ClickException):
    """The input is invalid. Nothing was changed."""

    exit_code = 2


class Flotilla(click.Group):
    """The command group. It translates errors of services and libraries into one line and an exit code."""

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
            raise _to_click_error(error) from error


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
    if ctx.invoked_subcommand not in {command.name for command in _PROCESSES}:
        token = acting_via.set("command line")
        ctx.call_on_close(lambda: acting_via.reset(token))


def _to_click_error(error: Exception) -> click.ClickException:
    if isinstance(error, SettingsError):
        return BadInput(f"Invalid settings:\n{error}")
    if isinstance(error, InvalidError | InvalidReference):
        return BadInput(error.for_operators if isinstance(error, InvalidError) else str(error))
    # Engines and registries choose a part of these texts.
    return Refused(clean_text(_describe_error(error), _MAX_CHARACTERS))


def _describe_error(error: Exception) -> str:
    match error:
        case ServiceError():
            text = error.for_operators
        case ImageNotAllowed() | CannotStartRedis() | OperationFailed():
            text = str(error)
        case OperationalError() | ProgrammingError() if _is_missing_table(error):
            text = "The database is not up to date. Run `flask --app portal.wsgi:create_wsgi db upgrade` first."
        case SQLAlchemyError() if is_locked(error):
            text = "The database is locked, because another process has not ended its transaction. Try again."
        case SQLAlchemyError():
            text = f"The database cannot be used ({type(error).__name__}). Check DATABASE_URL."
        case UnicodeError():
            text = "A text that was read, such as a password or a file, is not valid UTF-8. Check its encoding."
        case RedisError():
            text = "Redis cannot be reached. Check REDIS_URL or start `flotilla redis`."
        case DockerException():
            text = f"The Docker engine returned an error or did not answer: {error}"
        case _:
            text = f"Unexpected {type(error).__name__}: {error}. Run `flotilla --debug …` to see the traceback."
    return text


def _is_missing_table(error: OperationalError | ProgrammingError) -> bool:
    text = str(error.orig)
    return "no such " in text or "does not exist" in text


for command in (
    *_PROCESSES,
    admin.admin,
    bot_lifecycle.bots,
    bot_recovery.bots,
    bot_syncs.sync_group,
    conformance.conformance,
    doctor.doctor,
    alerts.alerts,
    nodes.nodes,
    orgs.orgs,
    releases.releases,
    restored.restored,
    rollouts.rollouts,
    snapshots.snapshots,
    template.template,
    upstream.upstream,
    users.users,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="flotilla")
