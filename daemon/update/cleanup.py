"""Removal of what a finished update leaves on the engine. Used by commit and rollback; repeated until it works."""

from __future__ import annotations

from docker.errors import APIError

from daemon.engine import containers
from daemon.update.update_context import UpdateContext
from portal.models import UpdateState, utcnow
from portal.services.bots import snapshots
from portal.services.rollouts import updates


def clean(context: UpdateContext) -> None:
    """Remove the old container, the helpers, the archives and the local tag. Every part is idempotent."""
    context.helper.remove_all_helpers()
    if context.update.state is UpdateState.UPDATED:
        _remove_old_container(context)
    delete_archives(context)
    remove_keep_tag(context)
    with context.transaction() as (session, update):
        updates.mark_cleaned(session, update, utcnow())


def remove_keep_tag(context: UpdateContext) -> None:
    """Remove the local tag that protects the old image from pruning. The image stays under its digest."""
    try:
        context.guarded_engine().remove_image(":".join(context.keep_tag), noprune=True)
    except APIError as error:
        # 404: there is no such tag. 409: it is the only name of an image that a container still uses.
        if error.status_code not in {404, 409}:
            raise


def _remove_old_container(context: UpdateContext) -> None:
    policy = context.saved["container"]["HostConfig"]["RestartPolicy"]
    if containers.inspect(context.engine, context.new_container):  # an operator may have removed it
        containers.set_restart_policy(context.guarded_engine(), context.new_container, policy)
    # The new container uses the same volumes.
    containers.remove(context.guarded_engine(), context.old_container, with_anonymous_volumes=False)


def delete_archives(context: UpdateContext) -> None:
    """Delete the archives of the update, finished or not."""
    with context.transaction() as (session, update):
        paths = [snapshot.archive for snapshot in snapshots.list_for_update(session, update.id)]
    if not paths:
        return
    helper = context.require_helper()
    helper.delete(paths)
    with context.transaction() as (session, update):
        snapshots.mark_all_deleted(session, update.id)
