"""Recovery of an update whose worker or engine stopped in the middle. Used by `sequence` after a takeover.

A failed rollback that an operator lets a worker continue is recovered in the same way.

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

from daemon.errors import EngineTrouble, OperationFailed
from daemon.update.continued_rollback import refuse_if_impossible
from daemon.update.retries import repeat
from daemon.update.rollback import abandon, discard_preparations, run_rollback, undo_before_start
from daemon.update.update_context import UpdateContext
from portal.models import Step, Verdict
from portal.services.rollouts import updates


class UpdateInterrupted(EngineTrouble):
    """The worker or the engine stopped during the update. The release is never the cause."""


def recover(context: UpdateContext) -> bool:
    """Resume an interrupted update according to its last journaled intent.

    Returns:
        True when the new container may have been started but has no verdict, so that it has to be verified.
    """
    repeat(context, _remove_helpers)
    # Such a bot has no running update unless an operator lets its failed rollback continue.
    if context.bot.needs_attention is not None and repeat(context, refuse_if_impossible):
        return False
    if context.update.verdict is Verdict.FAILED:
        run_rollback(context)
        return False
    match context.update.step:
        case Step.CLAIM | Step.PREFLIGHT | Step.PULL | Step.CAPTURE | Step.PRECREATE | Step.DRAIN:
            _requeue(context)
        case Step.STOP | Step.SNAPSHOT | Step.SWAP:
            undo_before_start(context, _first_error(context) or _interruption(context))
        case _:
            return True
    return False


def _remove_helpers(context: UpdateContext) -> None:
    context.lease.renew_or_raise()
    context.helper.remove_all_helpers()


def _requeue(context: UpdateContext) -> None:
    interruption = _interruption(context)
    repeat(context, discard_preparations)
    with context.transaction() as (session, update):
        requeued = updates.requeue(session, update)
    if not requeued:
        abandon(context, interruption)


def _first_error(context: UpdateContext) -> OperationFailed | None:
    """Return why the update failed before its rollback failed, too."""
    error, transient = context.update.error, context.update.transient
    return OperationFailed(error, transient=transient) if error else None


def _interruption(context: UpdateContext) -> UpdateInterrupted:
    return UpdateInterrupted(f"The worker or the engine stopped during the step {context.update.step!s}")
