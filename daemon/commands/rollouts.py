"""`flotilla rollouts`: bringing bots to a release."""

from __future__ import annotations

import time
from typing import Any

import click
from sqlalchemy.orm import Session

from daemon.commands.output import as_json, digest, table
from daemon.context import current_context
from portal.database import Database
from portal.models import Audience, Rollout, RolloutState, StrategyName, UpdateState
from portal.rules.allowlist import Allowlist
from portal.services import lookup
from portal.services.rollouts import progress, selection, transitions
from portal.services.rollouts import rollouts as service

_LOOKS_EVERY_SECONDS = 0.5
_FAILED = (UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)


@click.group()
def rollouts() -> None:
    """Rollouts: bringing bots to a release."""


@rollouts.command()
@click.argument("wanted", metavar="IMAGE_OR_RELEASE")
@click.option(
    "--strategy",
    type=click.Choice([name.value for name in StrategyName]),
    default=StrategyName.ROLLING_WAVE.value,
    show_default=True,
    help="How to walk through the bots.",
)
@click.option("--canary", type=int, help="Bots of the first wave, which proves the release.")
@click.option("--percentage", type=int, help="Size of each later wave, in percent of all bots.")
@click.option("--pause-seconds", type=int, help="Time between two waves.")
@click.option("--failure-threshold", type=int, help="Failed bots at which the rollout is aborted.")
@click.option("--max-retries", type=int, help="How often a bot is tried again when its node was in trouble.")
@click.option("--bot", "names", multiple=True, help="Only this bot (id, subdomain or name); may be repeated.")
@click.option("--all/--automatic", "everybody", default=False, help="All bots, or those updated automatically.")
@click.option("--now", "ignore_windows", is_flag=True, help="Do not wait for the hour an organization prefers.")
@click.option("--follow", "following", is_flag=True, help="Wait and show the progress until it ended.")
@click.option("--json", "json_", is_flag=True, help="Print the rollout as JSON.")
def start(
    wanted: str,
    *,
    strategy: str,
    names: tuple[str, ...],
    everybody: bool,
    ignore_windows: bool,
    following: bool,
    json_: bool,
    **parameters: int | None,
) -> None:
    """Bring bots to the release an image points at, or to a release named by id, digest or version.

    Without --all or --bot only bots of organizations in automatic mode take part.
    """
    if names and everybody:
        raise click.UsageError("Choose --all or --bot, not both.")
    context = current_context()
    with context.database.transaction() as session:
        found = lookup.find_rollout_target(session, wanted)
        rollout_request = selection.RolloutRequest(
            release=found.release,
            strategy=StrategyName(strategy),
            parameters={name: value for name, value in parameters.items() if value is not None},
            audience=Audience.NAMED if names else Audience.ALL if everybody else Audience.AUTOMATIC,
            bots=[lookup.find_bot(session, name) for name in names],
            image=found.image,
            ignore_windows=ignore_windows,
        )
        rollout = service.start_rollout(
            session, Allowlist.parse(context.settings.fleet_image_allowlist), rollout_request, actor=None
        )
        described = _described(session, rollout)
    if json_:
        as_json(described)
    else:
        click.echo(f"Rollout {rollout.id} brings {described['total']} bots to {found.release.version}.")
    if following:
        follow(context.database, rollout.id)


@rollouts.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", default="", help="Why, in words that people will read.")
def pause(rollout_id: str, reason: str) -> None:
    """Start no further bot; those in flight finish."""
    with current_context().database.transaction() as session:
        transitions.pause_rollout(session, service.get_rollout(session, rollout_id), reason, None)
    click.echo(f"Rollout {rollout_id} is paused.")


@rollouts.command()
@click.argument("rollout_id", metavar="ROLLOUT")
def resume(rollout_id: str) -> None:
    """Go on with a paused rollout."""
    with current_context().database.transaction() as session:
        transitions.resume_rollout(session, service.get_rollout(session, rollout_id), None)
    click.echo(f"Rollout {rollout_id} goes on.")


@rollouts.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, help="Why, in words that people will read.")
@click.option("--quarantine", is_flag=True, help="Make sure as well that nobody rolls this release out again.")
def abort(rollout_id: str, reason: str, quarantine: bool) -> None:
    """End a rollout for good: what has not begun is skipped, bots in flight finish."""
    with current_context().database.transaction() as session:
        transitions.abort_rollout(
            session, service.get_rollout(session, rollout_id), reason, None, quarantine=quarantine
        )
    click.echo(f"Rollout {rollout_id} is aborted.")


@rollouts.command()
@click.argument("rollout_id", metavar="[ROLLOUT]", required=False)
@click.option("--follow", "following", is_flag=True, help="Wait and show the progress until it ended.")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
def status(rollout_id: str | None, following: bool, json_: bool) -> None:
    """Show one rollout bot by bot, or the latest rollouts.

    With --follow the exit code is 1 when a bot could not be updated or the rollout was aborted.
    """
    database = current_context().database
    if following:
        if rollout_id is None:
            raise click.UsageError("Name the rollout to follow.")
        follow(database, rollout_id)
        return
    with database.reading() as session:
        if rollout_id is None:
            found = [_described(session, rollout) for rollout in service.list_recent_rollouts(session)]
            as_json(found) if json_ else _print_list(found)
        elif json_:
            as_json(_described(session, service.get_rollout(session, rollout_id)))
        else:
            _print_one(session, service.get_rollout(session, rollout_id))


def follow(database: Database, rollout_id: str) -> None:
    """Print each change of a rollout until it ended.

    Raises:
        Exit: with code 1 when no bot was updated, one could not be, or the rollout was aborted or superseded.
    """
    last = ""
    while True:
        with database.reading() as session:
            rollout = service.get_rollout(session, rollout_id)
            summary = progress.summarize(session, rollout)
            line = f"{rollout.state}: {'; '.join((summary.words, *summary.waits))}"
            reason = rollout.reason
        if line != last:
            click.echo(line)
        if summary.state not in Rollout.OPEN:
            break
        last = line
        time.sleep(_LOOKS_EVERY_SECONDS)
    if reason:
        click.echo(reason)
    if summary.failed or summary.updated == 0 or summary.state is not RolloutState.COMPLETED:
        raise click.exceptions.Exit(1)


def _described(session: Session, rollout: Rollout) -> dict[str, Any]:
    summary = progress.summarize(session, rollout)
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
        "waits": summary.waits,
        "created_at": rollout.created_at,
    }


def _print_list(found: list[dict[str, Any]]) -> None:
    headers = ("id", "state", "release", "strategy", "trigger", "created_at", "words")
    table([header.upper().replace("_AT", "") for header in headers], [[row[key] for key in headers] for row in found])


def _print_one(session: Session, rollout: Rollout) -> None:
    summary = progress.summarize(session, rollout)
    click.echo(f"{rollout.release.image} to {rollout.release.version} ({digest(rollout.release.digest)})")
    click.echo(f"{rollout.state}: {summary.words}")
    for words in (*summary.waits, rollout.reason):
        if words:
            click.echo(words)
    click.echo()
    table(
        ("WAVE", "BOT", "STATE", "STEP", "STARTED", "ENDED", "ERROR"),
        [
            (
                wave.number,
                update.bot.name,
                update.skip_reason or update.state,
                update.step if update.state is UpdateState.RUNNING else None,
                update.started_at,
                update.ended_at,
                update.error,
            )
            for wave in summary.waves
            for update in wave.updates
        ],
    )
