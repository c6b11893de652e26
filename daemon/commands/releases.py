"""`flotilla releases`: list, check, quarantine and release images."""

from __future__ import annotations

import click

from daemon.commands.output import print_table, shorten_digest
from daemon.context import current_context
from portal.models import utcnow
from portal.queue import POLLS_QUEUE, JobName, enqueue
from portal.rules.allowlist import Allowlist
from portal.services import lookup
from portal.services.releases import polling, release_list
from portal.services.releases import releases as service


@click.group()
def releases() -> None:
    """Manage releases, the versions found in registries."""


@releases.command("list")
def list_() -> None:
    """List the latest releases, and the polled images with their last error."""
    with current_context().database.reading() as session:
        print_table(
            ("ID", "VERSION", "DIGEST", "TAGS", "BOTS", "FIRST SEEN", "QUARANTINED"),
            [
                (
                    line.release.id,
                    line.release.version,
                    shorten_digest(line.release.digest),
                    ", ".join(line.tags) or line.release.repository,
                    line.bots,
                    line.release.first_seen_at,
                    line.release.quarantine_reason,
                )
                for line in release_list.list_releases(session)
            ],
        )
        click.echo()
        print_table(
            ("IMAGE", "BOTS", "LAST CHECK", "LAST ERROR"),
            [
                (line.row.image, line.bots, line.row.last_checked_at, line.row.last_error)
                for line in release_list.list_images(session)
            ],
        )


@releases.command()
@click.argument("image")
def check(image: str) -> None:
    """Check IMAGE in its registry now.

    An image with a digest (repository@sha256:…) becomes a release even if no tag points at it.
    """
    context = current_context()
    reference = lookup.parse_image(image)
    service.require_allowed_image(Allowlist.parse(context.settings.fleet_image_allowlist), str(reference))
    with context.database.transaction() as session:
        if reference.digest is None:
            row = polling.check_now(session, str(reference), utcnow())
        else:
            row = polling.request_digest(session, image, utcnow())
    enqueue(context.redis, JobName.POLL_IMAGE, row.image, queue=POLLS_QUEUE)
    click.echo(f"Checking {row.image}. The result will be in `flotilla releases list`.")


@releases.command()
@click.argument("release")
@click.option("--reason", required=True, help="Why the release must not be used. Shown to operators.")
def quarantine(release: str, reason: str) -> None:
    """Block rollouts of RELEASE (id, digest or version) until the quarantine is lifted."""
    with current_context().database.transaction() as session:
        row = lookup.find_release(session, release)
        service.quarantine(session, row, reason, utcnow(), actor=None)
    click.echo(f"Quarantined the release {row.version}: {row.quarantine_reason}")


@releases.command()
@click.argument("release")
@click.option("--reason", required=True, help="Why the release may be used again. Shown to operators.")
def lift(release: str, reason: str) -> None:
    """Lift the quarantine of RELEASE (id, digest or version)."""
    with current_context().database.transaction() as session:
        row = lookup.find_release(session, release)
        service.lift_quarantine(session, row, reason, utcnow(), actor=None)
    click.echo(f"Lifted the quarantine of {row.version}. It can be rolled out again.")
