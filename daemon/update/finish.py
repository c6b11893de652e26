"""The end of an update that went well, and the removal of what any update leaves on the engine."""

from __future__ import annotations

from docker.errors import APIError

from daemon.engine import containers
from daemon.update.update_context import UpdateContext
from portal.models import Step, UpdateState
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes, updates


def commit(context: UpdateContext) -> None:
    """Decide, in one transaction, that the new container is the bot; then clean up."""
    with context.write() as (session, update):
        updates.enter_step(session, update, Step.COMMIT)
        outcomes.commit_healthy(session, update, update.rollout.release, context.new, update.journal["address"])
    clean(context)


def clean(context: UpdateContext) -> None:
    """Remove what an ended update left behind. Each part may be repeated, so a takeover simply does it all again."""
    if context.update.state is UpdateState.UPDATED:
        _retire_old(context)
    delete_archives(context)
    drop_keep_tag(context)
    with context.write() as (session, update):
        updates.mark_cleaned(session, update)


def _retire_old(context: UpdateContext) -> None:
    policy = context.saved["container"]["HostConfig"]["RestartPolicy"]
    if containers.inspect(
        context.engine, context.new
    ):  # somebody may have removed it since: then there is less to do
        containers.set_restart_policy(context.guarded_engine(), context.new, policy)
    # Its volumes are those of the new one.
    containers.remove(context.guarded_engine(), context.old, with_fresh_volumes=False)


def delete_archives(context: UpdateContext) -> None:
    """Delete the update's snapshots from the node's disk."""
    with context.write() as (session, update):
        paths = [snapshot.archive for snapshot in snapshots.list_for_update(session, update.id)]
    if not paths:
        return
    helper = context.helper_again()
    context.lease.renew_or_raise()
    helper.delete(paths)
    with context.write() as (session, update):
        snapshots.mark_all_deleted(session, update.id)


def drop_keep_tag(context: UpdateContext) -> None:
    """Let the old image be pruned again; it stays for now, under its digest."""
    try:
        context.guarded_engine().remove_image(":".join(context.keep_tag), noprune=True)
    except APIError as error:
        # 404: it is gone. 409: it is the only name of an image that a container still uses.
        if error.status_code not in {404, 409}:
            raise
