"""`flotilla rollouts`: start, pause, resume, abort and follow rollouts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
from sqlalchemy.orm import Session

from daemon.commands.output import print_json, print_table, shorten_digest
from daemon.context import current_context
from portal.database import Database
from portal.models import Audience, Rollout, RolloutState, UpdateState, utcnow
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import PARAMETERS, STRATEGIES, StrategyName
from portal.services import lookup
from portal.services.rollouts import progress, rollout_list, selection, transitions, update_list
from portal.services.rollouts import rollouts as service

Command = TypeVar("Command", bound=Callable[..., Any])

_REFRESH_SECONDS = 0.5


def _parameter_options(command: Command) -> Command:
    """Add an option for each strategy parameter to a command."""
    for parameter in reversed(PARAMETERS.values()):
        name = f"--{parameter.name.replace('_', '-')}"
        command = click.option(name, type=int, help=parameter.help)(command)
    return command


@click.group()
def rollouts() -> None:
    """Manage rollouts, which update bots to a release."""


@rollouts.command()
@click.argument("wanted", metavar="IMAGE_OR_RELEASE")
@click.option(
    "--strategy",
    type=click.Choice([str(name) for name in STRATEGIES]),
    default=StrategyName.ROLLING_WAVE.value,
    show_default=True,
    help="Strategy of the rollout.",
)
@_parameter_options
@click.option("--bot", "names", multiple=True, help="Update only this bot (id, subdomain or name). Can be repeated.")
@click.option("--all/--automatic", "all_bots", default=False, help="All bots, or only those with automatic updates.")
@click.option("--now", "ignore_windows", is_flag=True, help="Ignore the update hours of organizations.")
@click.option("--follow", "following", is_flag=True, help="Show the progress and wait until the rollout has ended.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def start(
    wanted: str,
    *,
    strategy: str,
    names: tuple[str, ...],
    all_bots: bool,
    ignore_windows: bool,
    following: bool,
    json_: bool,
    **parameters: int | None,
) -> None:
    """Update bots to the current release of an image, or to a release given by id, digest or version.

    Without --all or --bot, only bots with automatic updates are updated.
    """
    if names and all_bots:
        raise click.UsageError("Use either --all or --bot, not both.")
    context = current_context()
    with context.database.transaction() as session:
        found = lookup.find_rollout_target(session, wanted)
        rollout_request = selection.RolloutRequest(
            release=found.release,
            strategy=StrategyName(strategy),
            parameters={name: value for name, value in parameters.items() if value is not None},
            audience=Audience.NAMED if names else Audience.ALL if all_bots else Audience.AUTOMATIC,
            bots=[lookup.find_bot(session, name) for name in names],
            image=found.image,
            ignore_windows=ignore_windows,
        )
        rollout = service.start_rollout(
            session, Allowlist.parse(context.settings.fleet_image_allowlist), rollout_request, utcnow(), actor=None
        )
        described = _describe(session, rollout)
    if json_:
        print_json(described)
    else:
        click.echo(f"Started rollout {rollout.id}: {described['total']} bots to {found.release.version}.")
    if following:
        follow(context.database, rollout.id)


@rollouts.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", default="", help="The reason. Shown to operators.")
def pause(rollout_id: str, reason: str) -> None:
    """Pause a rollout. Running updates finish; no further update starts."""
    with current_context().database.transaction() as session:
        transitions.pause_rollout(session, service.get_rollout(session, rollout_id), reason, utcnow(), actor=None)
    click.echo(f"Paused rollout {rollout_id}.")


@rollouts.command()
@click.argument("rollout_id", metavar="ROLLOUT")
def resume(rollout_id: str) -> None:
    """Resume a paused rollout."""
    with current_context().database.transaction() as session:
        transitions.resume_rollout(session, service.get_rollout(session, rollout_id), utcnow(), actor=None)
    click.echo(f"Resumed rollout {rollout_id}.")


@rollouts.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, help="The reason. Shown to operators.")
@click.option(
    "--quarantine", is_flag=True, help="Also quarantine the release, so that it cannot be rolled out again."
)
def abort(rollout_id: str, reason: str, quarantine: bool) -> None:
    """Abort a rollout. Running updates finish; all others are skipped. An aborted rollout cannot be resumed."""
    with current_context().database.transaction() as session:
        transitions.abort_rollout(
            session,
            service.get_rollout(session, rollout_id),
            reason,
            utcnow(),
            actor=None,
            quarantine=quarantine,
        )
    click.echo(f"Aborted rollout {rollout_id}.")


@rollouts.command()
@click.argument("rollout_id", metavar="[ROLLOUT]", required=False)
@click.option("--follow", "following", is_flag=True, help="Show the progress and wait until the rollout has ended.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def status(rollout_id: str | None, following: bool, json_: bool) -> None:
    """Show the bots of one rollout, or list the latest rollouts.

    With --follow, the exit code is 1 if an update failed or the rollout did not complete.
    """
    database = current_context().database
    if following:
        if rollout_id is None:
            raise click.UsageError("Enter the id of the rollout to follow.")
        follow(database, rollout_id)
        return
    with database.reading() as session:
        if rollout_id is None:
            found = [_describe(session, rollout) for rollout in rollout_list.list_recent_rollouts(session)]
            print_json(found) if json_ else _print_list(found)
        elif json_:
            print_json(_describe(session, service.get_rollout(session, rollout_id)))
        else:
            _print_one(session, service.get_rollout(session, rollout_id))


def follow(database: Database, rollout_id: str) -> None:
    """Print each change of a rollout until it has ended.

    Raises:
        Exit: with code 1 if no bot was updated, an update failed, or the rollout was aborted or superseded.
    """
    last = ""
    while True:
        with database.reading() as session:
            rollout = service.get_rollout(session, rollout_id)
            summary = progress.summarize(session, rollout, utcnow(), current_context().settings.health_check_timeout)
            waiting = _explain_waiting(session, rollout)
            line = f"{rollout.state}: {'; '.join((summary.words, *waiting.reasons))}"
            reason = rollout.reason
        if line != last:
            click.echo(line)
        if summary.state not in Rollout.OPEN:
            break
        last = line
        time.sleep(_REFRESH_SECONDS)
    if reason:
        click.echo(reason)
    if summary.failed or summary.updated == 0 or summary.state is not RolloutState.COMPLETED:
        raise click.exceptions.Exit(1)


def _describe(session: Session, rollout: Rollout) -> dict[str, Any]:
    summary = progress.summarize(session, rollout, utcnow(), current_context().settings.health_check_timeout)
    return {
        "id": rollout.id,
        "state": rollout.state,
        "reason": rollout.reason,
        "release": rollout.release.version,
        "digest": rollout.release.digest,
        "strategy": rollout.strategy,
        "audience": rollout.audience,
        "trigger": rollout.trigger,
        "total": summary.total,
        "counts": summary.counts,
        "words": summary.words,
        "waits": _explain_waiting(session, rollout).reasons,
        "created_at": rollout.created_at,
    }


def _explain_waiting(session: Session, rollout: Rollout) -> progress.Waiting:
    return progress.explain_waiting(session, rollout, utcnow(), current_context().settings.health_check_timeout)


def _print_list(found: list[dict[str, Any]]) -> None:
    headers = ("id", "state", "release", "strategy", "trigger", "created_at", "words")
    print_table(
        [header.upper().replace("_AT", "") for header in headers], [[row[key] for key in headers] for row in found]
    )


def _print_one(session: Session, rollout: Rollout) -> None:
    summary = progress.summarize(session, rollout, utcnow(), current_context().settings.health_check_timeout)
    click.echo(f"{rollout.release.image} to {rollout.release.version} ({shorten_digest(rollout.release.digest)})")
    click.echo(f"{rollout.state}: {summary.words}")
    for words in (*_explain_waiting(session, rollout).reasons, rollout.reason):
        if words:
            click.echo(words)
    click.echo()
    print_table(
        ("WAVE", "BOT", "STATE", "STEP", "STARTED", "ENDED", "ERROR"),
        [
            (
                update.wave,
                update.bot.name,
                update.skip_reason or update.state,
                update.step if update.state is UpdateState.RUNNING else None,
                update.started_at,
                update.ended_at,
                update.error,
            )
            for update in update_list.list_all_updates(session, rollout)
        ],
    )
