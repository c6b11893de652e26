"""The end of an update that went well, and the removal of what any update leaves on the engine."""

from __future__ import annotations

from docker.errors import APIError

from daemon.engine import containers
from daemon.update.update_context import Run
from portal.models import Step, UpdateState
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes, updates


def commit(run: Run) -> None:
    """Decide, in one transaction, that the new container is the bot; then clean up."""
    with run.write() as (session, update):
        updates.enter(session, update, Step.COMMIT)
        outcomes.commit(session, update, update.rollout.release, run.new, update.journal["address"])
    clean(run)


def clean(run: Run) -> None:
    """Remove what an ended update left behind. Each part may be repeated, so a takeover simply does it all again."""
    if run.update.state is UpdateState.UPDATED:
        _retire_old(run)
    delete_archives(run)
    drop_keep_tag(run)
    with run.write() as (session, update):
        updates.cleaned(session, update)


def _retire_old(run: Run) -> None:
    policy = run.saved["container"]["HostConfig"]["RestartPolicy"]
    if containers.inspect(run.engine, run.new):  # somebody may have removed it since: then there is less to do
        containers.set_restart_policy(run.hand(), run.new, policy)
    # Its volumes are those of the new one.
    containers.remove(run.hand(), run.old, with_fresh_volumes=False)


def delete_archives(run: Run) -> None:
    """Delete the update's snapshots from the node's disk."""
    with run.write() as (session, update):
        paths = [snapshot.archive for snapshot in snapshots.of_update(session, update.id)]
    if not paths:
        return
    helper = run.helper_again()
    run.lease.still_mine()
    helper.delete(paths)
    with run.write() as (session, update):
        snapshots.forget(session, update.id)


def drop_keep_tag(run: Run) -> None:
    """Let the old image be pruned again; it stays for now, under its digest."""
    try:
        run.hand().remove_image(":".join(run.keep_tag), noprune=True)
    except APIError as error:
        # 404: it is gone. 409: it is the only name of an image that a container still uses.
        if error.status_code not in {404, 409}:
            raise
