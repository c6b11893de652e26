"""The update of one bot: its steps in order, and the way back for each phase of it.

Every step is written down before its first effect. A snapshot of a running database would be torn, so the bot is
stopped first; pulling and creating come before that, so the bot is down only for archive and start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from daemon.bot_lease import BotLease
from daemon.engine.client import EngineUnreachable
from daemon.errors import OperationFailed
from daemon.update import steps
from daemon.update.finish import clean, commit
from daemon.update.preflight import NoUpdateNeeded, preflight
from daemon.update.recovery import recover
from daemon.update.rollback import abandon, start_rollback, undo_before_start
from daemon.update.update_context import UNDECIDABLE, UpdateContext, describe_error
from portal.database import Database
from portal.models import BotUpdate, Step
from portal.services.bots.leases import BotBusy, LeaseLost
from portal.services.rollouts import updates
from portal.services.rollouts.updates import ClaimResult
from portal.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Phase:
    """Steps that share one way back."""

    steps: Sequence[tuple[Step, Callable[[UpdateContext], None]]]
    on_failure: Callable[[UpdateContext, Exception], None]


# The claim comes before: step 1. Until the stop, giving up changes nothing.
_BEFORE_STOP = _Phase(
    (
        (Step.PREFLIGHT, preflight),
        (Step.PULL, steps.pull),
        (Step.CAPTURE, steps.capture),
        (Step.PRECREATE, steps.precreate),
    ),
    abandon,
)
# Until the start no new code has touched the data: the old container simply starts again.
_DOWNTIME = _Phase(
    (
        (Step.STOP, steps.stop),
        (Step.SNAPSHOT, steps.snapshot),
        (Step.SWAP, steps.swap),
    ),
    undo_before_start,
)
# From the start on, volumes and container go back together. The commit comes after: step 11.
_VERIFICATION = _Phase(
    (
        (Step.START, steps.start),
        (Step.HEALTH, steps.await_health),
    ),
    start_rollback,
)


def update_bot(database: Database, settings: Settings, update_id: str) -> None:
    """Bring a bot to the release of its update, or back; go on with what a worker that died left unfinished.

    How it ended stands in the update's row. Calling it twice, or on two workers at once, is harmless: one holds the
    bot, the other returns. When the engine or the database does not answer, the row stays as it is, and the call
    is to be repeated.

    Args:
        database: where the update stands.
        settings: of this installation.
        update_id: the update.
    """
    with database.reading() as session:
        update = session.get(BotUpdate, update_id)
        if update is None:
            return
        earlier = updates.list_unfinished(session, update)
    try:
        with BotLease(database, update.bot_id) as lease:
            for each in (*earlier, update_id):
                _continue_update(settings, lease, each)
    except (BotBusy, LeaseLost) as reason:
        logger.info("update %s is left to another worker: %s", update_id, reason)
    except OperationFailed as error:
        # The engine does not answer, or something could not be removed; whoever looks next goes on from here.
        logger.warning("update %s waits: %s", update_id, error)


def _continue_update(settings: Settings, lease: BotLease, update_id: str) -> None:
    with lease.transaction() as session:
        claim = updates.claim_update(session, update_id)
    if claim is ClaimResult.NOTHING:
        return
    with closing(UpdateContext(settings, lease, update_id)) as context:
        match claim:
            case ClaimResult.START:
                _run_phases(context, _BEFORE_STOP, _DOWNTIME, _VERIFICATION)
            case ClaimResult.RECOVER if recover(context):
                _run_phases(context, _VERIFICATION)
            case ClaimResult.CLEAN:
                _clean_if_possible(context)


def _clean_if_possible(context: UpdateContext) -> None:
    # It is tried again until it works. The next update of the bot need not wait for that: whatever of this one is
    # really in its way, its own preflight finds and tells.
    try:
        clean(context)
    except UNDECIDABLE:
        raise
    except Exception as error:
        logger.warning(
            "what update %s left could not be removed: %s", context.update.id, describe_error(error), exc_info=error
        )


def _run_phases(context: UpdateContext, *phases: _Phase) -> None:
    for phase in phases:
        if not _run_phase(context, phase):
            return
    commit(context)


def _run_phase(context: UpdateContext, phase: _Phase) -> bool:
    try:
        for step, act in phase.steps:
            context.enter(step)
            act(context)
    except NoUpdateNeeded as nothing:
        with context.write() as (session, update):
            updates.skip_update(session, update, nothing.reason)
    except UNDECIDABLE as error:
        if phase is not _BEFORE_STOP or not isinstance(error, EngineUnreachable):
            raise
        abandon(context, error)
    except Exception as error:  # whatever it was, the bot comes first
        logger.warning("update %s failed in step %s", context.update.id, context.update.step, exc_info=error)
        phase.on_failure(context, error)
    else:
        return True
    return False
