"""What each step of an update does, from pull to commit. `sequence` defines their order and uses them."""

from __future__ import annotations

import time

from daemon.engine import containers, health_probe
from daemon.engine.addresses import read_address
from daemon.engine.bot_environment import bot_environment
from daemon.engine.recreate import capture as captures
from daemon.engine.recreate import compare, creation
from daemon.errors import OperationFailed
from daemon.registry.image_pull import pull_image
from daemon.update import original_settings
from daemon.update.cleanup import clean_or_defer
from daemon.update.preflight import list_snapshot_volumes
from daemon.update.update_context import UpdateContext
from portal.models import Snapshot, SnapshotState, Step, move, utcnow
from portal.services.bots import snapshots
from portal.services.gateway import processes
from portal.services.rollouts import outcomes, updates

DRAIN_SECONDS = 10.0
"""How long requests may still run before the bot is stopped. Longer ones, such as large downloads, are cut off."""
_DRAIN_POLL_SECONDS = 0.25


class Unhealthy(OperationFailed):
    """The new container did not become healthy."""


def pull(context: UpdateContext) -> None:
    """Pull the image of the release by digest, while the old container still runs."""
    pull_image(context.engine, context.settings, context.image)


def capture(context: UpdateContext) -> None:
    """Save the full description of the old container, from which it can be created again."""
    saved = captures.capture(context.engine, context.old_container)
    original_settings.apply_first_capture(context, saved)
    address = read_address(saved["container"], context.node, context.bot.port)
    healthy = address is not None and health_probe.probe_with_retry(address, context.health_check).ok
    with context.transaction() as (session, update):
        update.saved_container = saved
        update.bot.container_name = containers.name_of_container(saved["container"])
        original = original_settings.describe(saved["container"])
        updates.add_to_journal(session, update, healthy_before=healthy, original=original)


def precreate(context: UpdateContext) -> None:
    """Create the new container beside the old one and refuse any unexplained difference between both."""
    new_image = context.engine.inspect_image(context.image)  # type: ignore[no-untyped-call]
    variables = bot_environment(context.bot)
    plan = creation.plan_replacement(context.saved, context.image, context.labels, variables)
    # In an earlier attempt the call may have timed out although the engine created the container.
    if leftover := containers.find(context.engine, context.temporary_name, context.update.id):
        containers.remove(context.guarded_engine(), leftover, with_anonymous_volumes=True)
    container_id = context.create_container(plan, context.temporary_name)
    with context.transaction() as (_, update):
        update.new_container_id = container_id
    created = context.engine.inspect_container(container_id)
    if differences := compare.unexplained_differences(context.saved, created, new_image, variables):
        raise OperationFailed(
            "The container cannot be recreated faithfully, so the bot was not updated. Differences: "
            + "; ".join(differences)
        )


def drain(context: UpdateContext) -> None:
    """Wait until no gateway forwards requests to the bot any more, at most `DRAIN_SECONDS`.

    The gateways read from the row of the update that the bot goes out of service.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        with context.transaction() as (session, update):
            if processes.has_drained(session, update.id):
                return
        time.sleep(_DRAIN_POLL_SECONDS)


def stop(context: UpdateContext) -> None:
    """Stop the old container with its own signal and grace period. The capture has saved its restart policy."""
    containers.set_restart_policy(context.guarded_engine(), context.old_container, containers.NO_RESTART)
    containers.stop(context.engine, context.old_container, context.lease.renew_or_raise)


def snapshot(context: UpdateContext) -> None:
    """Archive and verify every writable volume."""
    size = context.update.journal["volumes_size"]
    for number, volume in enumerate(list_snapshot_volumes(context.saved["container"]), start=1):
        file = f"{context.update.id}-{number}.tar"
        with context.transaction() as (session, update):
            row = snapshots.record_start(session, update, volume, f"{context.node.snapshot_dir}/{file}")
        context.lease.renew_or_raise()
        archived = context.helper.archive(number, volume, context.node.snapshot_dir, file, size)
        with context.transaction() as (session, update):
            move(
                session,
                session.get_one(Snapshot, row),
                SnapshotState.TAKING,
                SnapshotState.VERIFIED,
                archive=archived.path,
                size=archived.size,
                entries=archived.entries,
                sha256=archived.sha256,
                helper_digest=update.journal["helper_image"],
            )


def swap(context: UpdateContext) -> None:
    """Rename the old container aside and give its name to the new one. Renames are easy to undo."""
    containers.rename(context.guarded_engine(), context.old_container, context.set_aside_name)
    containers.rename(context.guarded_engine(), context.new_container, context.bot_name)


def start(context: UpdateContext) -> None:
    """Start the new container."""
    containers.start(context.guarded_engine(), context.new_container)


def wait_until_healthy(context: UpdateContext) -> None:
    """Wait until the new container is healthy and record its address.

    Raises:
        Unhealthy: the new container exited, restarted or exceeded the time limit.
    """
    result = context.wait_until_healthy(context.new_container)
    if not result.healthy:
        raise Unhealthy(f"Health check failed: {result.reason}")
    context.add_to_journal(address=result.address)


def commit(context: UpdateContext) -> None:
    """Make the new container the bot's container, in one transaction, then clean up."""
    with context.transaction() as (session, update):
        now = utcnow()
        updates.enter_step(session, update, Step.COMMIT, now)
        outcomes.commit_healthy(session, update, context.new_container, update.journal["address"], now)
    clean_or_defer(context)
