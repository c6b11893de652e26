"""What each step of an update does, from pull to commit. `sequence` defines their order and uses them."""

from __future__ import annotations

import time

from daemon.engine import containers, health_probe
from daemon.engine.addresses import read_address
from daemon.engine.bot_environment import bot_environment
from daemon.engine.recreate import capture as captures
from daemon.engine.recreate import compare, creation
from daemon.engine.stopped_containers import has_ended_with_engine
from daemon.errors import EngineTrouble, OperationFailed
from daemon.registry.image_pull import pull_image
from daemon.update import original_settings
from daemon.update.cleanup import clean_or_defer
from daemon.update.update_context import UpdateContext
from portal.models import utcnow
from portal.services.bots import snapshots
from portal.services.gateway import processes
from portal.services.rollouts import outcomes

DRAIN_SECONDS = 10.0
"""How long requests may still run before the bot is stopped. Longer ones, such as large downloads, are cut off."""
_DRAIN_POLL_SECONDS = 0.25


class Unhealthy(OperationFailed):
    """The new container did not become healthy."""


def pull(context: UpdateContext) -> None:
    """Pull the image of the release by digest, while the old container still runs."""
    context.new_image = pull_image(context.engine, context.settings, context.image)


def capture(context: UpdateContext) -> None:
    """Save the full description of the old container, from which it can be created again."""
    saved = captures.capture(context.engine, context.old_container)
    original_settings.apply_first_capture(context, saved)
    address = read_address(saved["container"], context.node, context.bot.port)
    healthy = address is not None and health_probe.probe_with_retry(address, context.health_check).ok
    original = original_settings.describe(saved["container"])
    journal = context.update.journal | {"healthy_before": healthy, "original": original}
    context.record(saved_container=saved, journal=journal)
    if context.bot.container_name != context.bot_name:
        with context.transaction() as (_, update):
            update.bot.container_name = context.bot_name


def precreate(context: UpdateContext) -> None:
    """Create the new container beside the old one and refuse any unexplained difference between both."""
    variables = bot_environment(context.bot)
    plan = creation.plan_replacement(context.saved, context.image, context.labels, variables)
    # In an earlier attempt the call may have timed out although the engine created the container.
    if leftover := containers.find(context.engine, context.temporary_name, context.update.id):
        containers.remove(context.guarded_engine(), leftover, with_anonymous_volumes=True)
    container_id = context.create_container(plan, context.temporary_name)
    context.record(new_container_id=container_id)
    created = context.engine.inspect_container(container_id)
    if differences := compare.unexplained_differences(context.saved, created, context.new_image, variables):
        raise OperationFailed(
            "The container cannot be recreated faithfully, so the bot was not updated. Differences: "
            + "; ".join(differences)
        )


def take_bases(context: UpdateContext) -> None:
    """Archive the volumes while the bot runs, so that the archive after the stop contains only what changed since."""
    taker = context.snapshot_taker
    if taker is None:  # the bot has no writable volume
        return
    with context.lease.transaction() as session:
        snapshots.record_start(session, context.update.id, context.node.id, taker.paths)
    taker.take_bases()


def drain(context: UpdateContext) -> None:
    """Wait until no gateway forwards requests to the bot any more, at most `DRAIN_SECONDS`.

    The gateways read from the row of the update that the bot goes out of service.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        with context.lease.database.reading() as session:
            if processes.has_drained(session, context.update.id):
                return
        time.sleep(_DRAIN_POLL_SECONDS)


def stop(context: UpdateContext) -> None:
    """Stop the old container with its own signal and grace period. The capture has saved its restart policy."""
    containers.set_restart_policy(context.guarded_engine(), context.old_container, containers.NO_RESTART)
    described = context.saved["container"]
    containers.stop(context.engine, context.old_container, context.lease.renew_or_raise, described=described)


def take_snapshots(context: UpdateContext) -> None:
    """Complete and verify the archives of all writable volumes."""
    if context.snapshot_taker is None:  # the bot has no writable volume
        return
    archives = context.snapshot_taker.take_snapshots()
    with context.lease.transaction() as session:
        for archive in archives:
            snapshots.mark_verified(
                session,
                context.update.id,
                archive.volume,
                size=archive.size,
                entries=archive.entries,
                checksum=archive.checksum,
                helper_digest=context.update.journal["helper_image"],
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
        EngineTrouble: a crash of the engine ended the new container, which was started again.
    """
    result = context.wait_until_healthy(context.new_container)
    if not result.healthy:
        _start_again_after_crash(context)
        raise Unhealthy(f"Health check failed: {result.reason}")
    context.address = result.address


def _start_again_after_crash(context: UpdateContext) -> None:
    found = containers.inspect(context.engine, context.new_container)
    if found is not None and has_ended_with_engine(context.engine, found):
        containers.start(context.guarded_engine(), context.new_container)
        raise EngineTrouble("A crash of the engine ended the new container, which was started again")


def commit(context: UpdateContext) -> None:
    """Make the new container the bot's container, in one transaction, then clean up."""
    with context.transaction() as (session, update):
        outcomes.commit_healthy(session, update, context.new_container, context.address, utcnow())
    clean_or_defer(context)
