"""Going on where a worker died: first the engine is brought to rest, then the last journaled intent decides."""

from __future__ import annotations

from daemon.errors import OperationFailed
from daemon.update.rollback import abandon, discard_preparations, run_rollback, undo_before_start
from daemon.update.update_context import UpdateContext
from portal.models import Step, Verdict
from portal.services.rollouts import updates

_BEFORE_STOP = {Step.CLAIM, Step.PREFLIGHT, Step.PULL, Step.CAPTURE, Step.PRECREATE}
_BEFORE_START = {Step.STOP, Step.SNAPSHOT, Step.SWAP}


class UpdateInterrupted(OperationFailed):
    """The worker or the engine went away in the middle. That is never the release's fault."""

    transient = True


def recover(context: UpdateContext) -> bool:
    """Bring an update that was cut off to a good end, as far as the old container is concerned.

    Before the stop nothing had changed, so the update is due again. From the stop to the swap the volumes are
    untouched, and the old container simply starts again. After a verdict against the new container, the rollback
    goes on.

    Returns:
        True when the new container had been told to start but was not judged: it deserves its trial.
    """
    context.lease.renew_or_raise()
    context.helper.end_all()
    cut_off = UpdateInterrupted(f"the worker or the engine went away during the step {context.update.step!s}")
    if context.update.verdict is Verdict.FAILED:
        run_rollback(context)
    elif context.update.step in _BEFORE_STOP:
        discard_preparations(context)
        with context.write() as (session, update):
            given_back = updates.requeue(session, update)
        if not given_back:
            abandon(context, cut_off)
    elif context.update.step in _BEFORE_START:
        undo_before_start(context, cut_off)
    else:
        return True
    return False
