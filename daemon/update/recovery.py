"""Recovery of an update whose worker or engine stopped in the middle. Used by `sequence` after a takeover.

Recovery first brings the engine to rest. Then the last journaled intent decides:

| Last intent              | Action                                                                          |
|--------------------------|---------------------------------------------------------------------------------|
| before stop              | remove the precreated container; the update is pending again                    |
| stop, snapshot, swap     | volumes are untouched: start the old container again, without restore or epoch  |
| start or health, no verdict | start the new container and run the whole health check again (`sequence`)    |
| verdict failed           | continue the rollback                                                           |
| verdict healthy          | finish the cleanup (`sequence`: `ClaimResult.CLEAN`)                            |
"""

from __future__ import annotations

from daemon.errors import OperationFailed
from daemon.update.rollback import abandon, discard_preparations, run_rollback, undo_before_start
from daemon.update.update_context import UpdateContext
from portal.models import Step, Verdict
from portal.services.rollouts import updates


class UpdateInterrupted(OperationFailed):
    """The worker or the engine stopped during the update. The release is never the cause."""

    transient = True


def recover(context: UpdateContext) -> bool:
    """Resume an interrupted update according to its last journaled intent.

    Returns:
        True when the new container may have been started but has no verdict, so that it has to be verified.
    """
    _remove_helpers(context)
    if context.update.verdict is Verdict.FAILED:
        run_rollback(context)
        return False
    match context.update.step:
        case Step.CLAIM | Step.PREFLIGHT | Step.PULL | Step.CAPTURE | Step.PRECREATE | Step.BASE | Step.DRAIN:
            _requeue(context)
        case Step.STOP | Step.SNAPSHOT | Step.SWAP:
            undo_before_start(context, _interruption(context))
        case _:
            return True
    return False


def _remove_helpers(context: UpdateContext) -> None:
    context.lease.renew_or_raise()
    context.helper.remove_all_helpers()


def _requeue(context: UpdateContext) -> None:
    interruption = _interruption(context)
    discard_preparations(context)
    with context.transaction() as (session, update):
        requeued = updates.requeue(session, update)
    if not requeued:
        abandon(context, interruption)


def _interruption(context: UpdateContext) -> UpdateInterrupted:
    return UpdateInterrupted(f"The worker or the engine stopped during the step {context.update.step!s}")
