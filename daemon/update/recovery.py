"""Going on where a worker died: first the engine is brought to rest, then the last journaled intent decides."""

from __future__ import annotations

from daemon.errors import UpdateFailed
from daemon.update.rollback import abandon, forget_preparations, go_back, undo
from daemon.update.update_context import Run
from portal.models import Step, Verdict
from portal.services.rollouts import updates

_BEFORE_STOP = {Step.CLAIM, Step.PREFLIGHT, Step.PULL, Step.CAPTURE, Step.PRECREATE}
_BEFORE_START = {Step.STOP, Step.SNAPSHOT, Step.SWAP}


class CutOff(UpdateFailed):
    """The worker or the engine went away in the middle. That is never the release's fault."""

    transient = True


def recover(run: Run) -> bool:
    """Bring an update that was cut off to a good end, as far as the old container is concerned.

    Before the stop nothing had changed, so the update is due again. From the stop to the swap the volumes are
    untouched, and the old container simply starts again. After a verdict against the new container, the rollback
    goes on.

    Returns:
        True when the new container had been told to start but was not judged: it deserves its trial.
    """
    run.lease.still_mine()
    run.helper.end_all()
    cut_off = CutOff(f"the worker or the engine went away during the step {run.update.step!s}")
    if run.update.verdict is Verdict.FAILED:
        go_back(run)
    elif run.update.step in _BEFORE_STOP:
        forget_preparations(run)
        with run.write() as (session, update):
            given_back = updates.give_back(session, update)
        if not given_back:
            abandon(run, cut_off)
    elif run.update.step in _BEFORE_START:
        undo(run, cut_off)
    else:
        return True
    return False
