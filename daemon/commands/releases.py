"""`flotilla releases`: what was seen in registries, and what may not run."""

from __future__ import annotations

import click

from daemon.commands.output import digest, table
from daemon.context import current_context
from portal.models import utcnow
from portal.queue import JobName, enqueue
from portal.rules.allowlist import Allowlist
from portal.services import lookup
from portal.services.releases import polling, release_list
from portal.services.releases import releases as service


@click.group()
def releases() -> None:
    """Releases: the digests seen in registries."""


@releases.command("list")
def list_() -> None:
    """Show the latest releases, and the images with what went wrong when they were polled."""
    with current_context().database.reading() as session:
        table(
            ("ID", "VERSION", "DIGEST", "TAGS", "BOTS", "FIRST SEEN", "QUARANTINED"),
            [
                (
                    line.release.id,
                    line.release.version,
                    digest(line.release.digest),
                    ", ".join(line.tags) or line.release.repository,
                    line.bots,
                    line.release.first_seen_at,
                    line.release.quarantine_reason,
                )
                for line in release_list.list_releases(session)
            ],
        )
        click.echo()
        table(
            ("IMAGE", "BOTS", "LAST CHECKED", "LAST ERROR"),
            [
                (line.row.image, line.bots, line.row.last_checked_at, line.row.last_error)
                for line in release_list.list_images(session)
            ],
        )


@releases.command()
@click.argument("image")
def check(image: str) -> None:
    """Ask the registry at once what IMAGE points at.

    With repository@sha256:... that digest is looked up and becomes a release.
    """
    context = current_context()
    reference = lookup.parse_image(image)
    service.require_allowed_image(Allowlist.parse(context.settings.fleet_image_allowlist), str(reference))
    with context.database.transaction() as session:
        if reference.digest is None:
            row = polling.check_now(session, str(reference), utcnow())
        else:
            row = polling.request_digest(session, image, utcnow())
    enqueue(context.redis, JobName.POLL_IMAGE, row.image)
    click.echo(f"A worker asks the registry for {row.image} now; `flotilla releases list` shows the answer.")


@releases.command()
@click.argument("release")
@click.option("--reason", required=True, help="Why it is bad, in words that people will read.")
def quarantine(release: str, reason: str) -> None:
    """Make sure that nobody rolls RELEASE (id, digest or version) out until that is lifted."""
    with current_context().database.transaction() as session:
        row = lookup.find_release(session, release)
        service.quarantine(session, row, reason, None)
    click.echo(f"Release {row.version} is quarantined: {row.quarantine_reason}")


@releases.command()
@click.argument("release")
@click.option("--reason", required=True, help="Why it may run again, in words that people will read.")
def lift(release: str, reason: str) -> None:
    """Allow the quarantined RELEASE (id, digest or version) again."""
    with current_context().database.transaction() as session:
        row = lookup.find_release(session, release)
        service.lift_quarantine(session, row, reason, None)
    click.echo(f"Release {row.version} may be rolled out again.")
