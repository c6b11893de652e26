"""Removal of what a finished update leaves on the engine. Used by commit and rollback; repeated until it works."""

from __future__ import annotations

from docker.errors import APIError, DockerException

from daemon.engine import containers
from daemon.errors import EngineTrouble
from daemon.update import original_settings
from daemon.update.update_context import INFRASTRUCTURE_ERRORS, UpdateContext
from portal.models import UpdateState, Verdict, utcnow
from portal.rules.references import parse_reference
from portal.services.bots import snapshots


def clean_or_defer(context: UpdateContext) -> None:
    """Clean up after an update. The scheduler repeats what the engine refuses.

    A failed cleanup decides nothing, and it does not block the next update of the bot, whose preflight reports any
    leftover that is an obstacle.
    """
    try:
        _clean(context)
    except INFRASTRUCTURE_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 - the outcome of the update is recorded already
        context.log_failure("cleanup of update %s failed: %s", error)


def try_to_discard_preflight(context: UpdateContext) -> None:
    """Remove what earlier attempts of a preflight left. The collector removes what the engine refuses."""
    try:
        context.helper.remove_all_helpers()
        remove_keep_tag(context)
    except (DockerException, EngineTrouble) as error:
        context.log_failure("cleanup after the preflight of update %s failed: %s", error)


def remove_new_container(context: UpdateContext) -> None:
    """Stop and remove the new container with the anonymous volumes that its own image declares."""
    # The id is missing until it is recorded after the creation; the temporary name is gone after the swap.
    new = context.update.new_container_id or containers.find(
        context.engine, context.temporary_name, context.update.id
    )
    # An operator may have attached it to the bot.
    if new is None or new == context.bot.container_id or containers.inspect(context.engine, new) is None:
        return
    containers.set_restart_policy(context.guarded_engine(), new, containers.NO_RESTART)
    containers.stop(context.engine, new, context.lease.renew_or_raise)
    containers.remove(context.guarded_engine(), new, with_anonymous_volumes=True)


def remove_keep_tag(context: UpdateContext) -> None:
    """Remove the local tag that protects the old image from pruning. The image stays under its digest."""
    try:
        context.guarded_engine().remove_image(":".join(context.keep_tag), noprune=True)
    except APIError as error:
        # 404: there is no such tag. 409: it is the only name of an image that a container still uses.
        if error.status_code not in {404, 409}:
            raise


def _clean(context: UpdateContext) -> None:
    """Settle the container that stays, and remove everything else. Every part is idempotent."""
    if context.update.state is UpdateState.UPDATED:
        _settle_new_container(context)
    else:
        _settle_old_container(context)
    delete_archives(context)
    context.lease.renew_or_raise()
    context.helper.remove_all_helpers()
    remove_keep_tag(context)
    context.record(cleaned_at=utcnow())


def _settle_new_container(context: UpdateContext) -> None:
    original_settings.restore(context, context.new_container)
    # The new container uses the same volumes.
    containers.remove(context.guarded_engine(), context.old_container, with_anonymous_volumes=False)


def _settle_old_container(context: UpdateContext) -> None:
    remove_new_container(context)
    if context.update.stopped_at is not None:
        original_settings.restore(context, context.old_container)
    if context.update.verdict is Verdict.FAILED:
        _tag_running_image(context)


def _tag_running_image(context: UpdateContext) -> None:
    """Move the local tag to the image that runs, for operators who start containers by hand."""
    reference = parse_reference(context.bot.image)
    running = containers.inspect(context.engine, context.old_container)
    if running is not None and reference.tag:
        context.guarded_engine().tag(running["Image"], reference.name, reference.tag, force=True)


def delete_archives(context: UpdateContext) -> None:
    """Delete the archives of the update, finished or not, and remove the helper that may still write them."""
    with context.lease.database.reading() as session:
        paths = [snapshot.archive for snapshot in snapshots.list_for_update(session, context.update.id)]
    if not paths:
        return
    # The image exists if this worker took the snapshots. If it was pruned since, a later job cleans up.
    helper = context.helper if context.snapshot_taker else context.require_helper()
    context.lease.renew_or_raise()
    helper.remove_all_helpers()
    helper.delete(paths)
    with context.lease.transaction() as session:
        snapshots.mark_all_deleted(session, context.update.id)
