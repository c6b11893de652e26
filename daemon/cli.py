"""The `flotilla` command. Errors are one line that says what to do; exit code 1: refused, 2: bad input."""

from __future__ import annotations

from typing import Any

import click
from docker.errors import DockerException
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from daemon.commands import admin, bots, doctor, nodes, orgs, processes, releases, rollouts, snapshots, users
from daemon.embedded_redis import CannotStartRedis
from daemon.errors import OperationFailed
from portal.rules.allowlist import ImageNotAllowed
from portal.rules.references import InvalidReference
from portal.services.errors import InvalidError, ServiceError
from portal.services.events import acting_via
from portal.settings import SettingsError

_PROCESSES = (processes.worker, processes.scheduler, processes.redis)


class Refused(click.ClickException):
    """The command understood what was wanted and cannot or may not do it."""

    exit_code = 1


class BadInput(click.ClickException):
    """What was given makes no sense; nothing was changed."""

    exit_code = 2


class Flotilla(click.Group):
    """The command group; it turns what services and libraries raise into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand.

        Raises:
            Refused: for every error but those that click reports itself.
            BadInput: where the cause is what was given.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            raise _explain(error) from error


@click.group(cls=Flotilla)
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:  # noqa: ARG001 - the group reads it itself
    """Flotilla keeps a fleet of customers' bots on the newest image without losing their data.

    All commands read the same environment as the portal, such as DATABASE_URL, SECRET_KEY and REDIS_URL.
    """
    # What a process does by itself is nobody's command.
    if ctx.invoked_subcommand not in {command.name for command in _PROCESSES}:
        token = acting_via.set("command line")
        ctx.call_on_close(lambda: acting_via.reset(token))


def _explain(error: Exception) -> click.ClickException:
    if isinstance(error, SettingsError):
        return BadInput(f"these settings cannot be used:\n{error}")
    if isinstance(error, InvalidError | InvalidReference):
        return BadInput(str(error))
    return Refused(_words(error))


def _words(error: Exception) -> str:
    match error:
        case ServiceError() | ImageNotAllowed() | CannotStartRedis() | OperationFailed():
            words = str(error)
        case OperationalError() | ProgrammingError() if _tables_are_missing(error):
            words = "The database is not up to date: run `flask --app portal.wsgi:create_wsgi db upgrade` first."
        case SQLAlchemyError():
            words = f"The database cannot be used ({type(error).__name__}): check DATABASE_URL."
        case RedisError():
            words = "Redis cannot be reached: check REDIS_URL, or start `flotilla redis`."
        case DockerException():
            words = f"The Docker engine refused or did not answer: {error}"
        case _:
            words = f"Unexpected {type(error).__name__}: {error}. Run it with --debug to see where."
    return words


def _tables_are_missing(error: OperationalError | ProgrammingError) -> bool:
    text = str(error.orig)
    return "no such " in text or "does not exist" in text


for command in (
    *_PROCESSES,
    admin.admin,
    bots.bots,
    doctor.doctor,
    nodes.nodes,
    orgs.orgs,
    releases.releases,
    rollouts.rollouts,
    snapshots.snapshots,
    users.users,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="flotilla")
