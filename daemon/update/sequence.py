"""The update of one bot as a sequence of steps, with a failure action for each phase. Used by the job `update_bot`.

     1 claim       the bot's lease and fence
     2 preflight   find every obstacle that can be found in advance
     3 pull        the image, by digest
     4 capture     the full description of the old container
     5 precreate   the new container, not started, and compare it with the old one
     6 base        archive what every writable volume contains while the bot runs
     7 drain       the gateways hold new requests; wait until running ones have ended
     8 stop        the old container
     9 snapshot    add what has changed in every writable volume
    10 swap        the names of both containers
    11 start       the new container
    12 health      wait until the new container is healthy
    13 commit      the new container becomes the bot's container; clean up

If steps 2 to 7 fail, the old container was never stopped (`abandon`). If steps 8 to 10 fail, the volumes are
untouched and the old container starts again (`undo_before_start`). If steps 11 or 12 fail, volumes and old container
are restored together (`start_rollback`).

Every step may be repeated. While the engine is in trouble, `retries` repeats the step for a while before it fails.

Every step is recorded before its first effect. The bot is stopped before the snapshot, because a snapshot of a
running database is torn. Pull, creation and base come before the stop, so that the downtime is only the rest of the
archive and the start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from daemon.bot_lease import BotLease
from daemon.engine.trouble import is_engine_trouble
from daemon.errors import OperationFailed
from daemon.update import steps
from daemon.update.cleanup import clean_or_defer, try_to_discard_preflight
from daemon.update.preflight import NoUpdateNeeded, preflight
from daemon.update.recovery import recover
from daemon.update.retries import repeat
from daemon.update.rollback import abandon, start_rollback, undo_before_start
from daemon.update.update_context import INFRASTRUCTURE_ERRORS, UpdateContext
from portal.database import Database
from portal.models import BotUpdate, Step, utcnow
from portal.services import fleet_settings
from portal.services.bots.leases import BotBusy, LeaseLost
from portal.services.rollouts import updates
from portal.services.rollouts.updates import ClaimResult
from portal.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Phase:
    """Steps that share a failure action."""

    steps: Sequence[tuple[Step, Callable[[UpdateContext], None]]]
    on_failure: Callable[[UpdateContext, Exception], None]


_BEFORE_STOP = _Phase(
    steps=(
        (Step.PREFLIGHT, preflight),
        (Step.PULL, steps.pull),
        (Step.CAPTURE, steps.capture),
        (Step.PRECREATE, steps.precreate),
        (Step.BASE, steps.take_bases),
        (Step.DRAIN, steps.drain),
    ),
    on_failure=abandon,
)
_DOWNTIME = _Phase(
    steps=(
        (Step.STOP, steps.stop),
        (Step.SNAPSHOT, steps.take_snapshots),
        (Step.SWAP, steps.swap),
    ),
    on_failure=undo_before_start,
)
_VERIFICATION = _Phase(
    steps=(
        (Step.START, steps.start),
        (Step.HEALTH, steps.wait_until_healthy),
    ),
    on_failure=start_rollback,
)


def update_bot(database: Database, settings: Settings, update_id: str) -> None:
    """Update a bot to the release of its update, or roll it back. Resume updates that a dead worker left unfinished.

    The outcome is recorded in the row of the update. Two simultaneous calls are harmless: one gets the bot's lease,
    the other returns. When the database or, after the stop, the engine does not answer, the row stays as it is and
    the scheduler enqueues the job again.

    Args:
        database: database with the update.
        settings: settings of this installation.
        update_id: the update.
    """
    with database.reading() as session:
        update = session.get(BotUpdate, update_id)
        if update is None:
            return
        unfinished = updates.list_unfinished(session, update)
    try:
        with BotLease(database, update.bot_id) as lease:
            for each in (*unfinished, update_id):
                _run_update(settings, lease, each)
    except (BotBusy, LeaseLost) as error:
        logger.info("update %s is handled by another worker: %s", update_id, error)
    except OperationFailed as error:
        logger.warning("update %s is resumed later: %s", update_id, error)


def _run_update(settings: Settings, lease: BotLease, update_id: str) -> None:
    with lease.transaction() as session:
        fleet = fleet_settings.get_settings(session)  # the claim reads it, too
        claim = updates.claim_update(session, update_id, utcnow())
        if claim is ClaimResult.NOTHING:
            return
        claimed = UpdateContext(settings, lease, updates.load(session, update_id), fleet.install_id)
    with closing(claimed) as context:
        match claim:
            case ClaimResult.START:
                _run_phases(context, _BEFORE_STOP, _DOWNTIME, _VERIFICATION)
            case ClaimResult.RECOVER if recover(context):
                _run_phases(context, _VERIFICATION)
            case ClaimResult.CLEAN:
                clean_or_defer(context)


def _run_phases(context: UpdateContext, *phases: _Phase) -> None:
    for phase in phases:
        if not _run_phase(context, phase):
            return
    steps.commit(context)


def _run_phase(context: UpdateContext, phase: _Phase) -> bool:
    """Run the steps of a phase. Return False when the update has ended, by failure or because it is not needed."""
    try:
        for step, run_step in phase.steps:
            context.enter_step(step)
            repeat(context, run_step)
    except NoUpdateNeeded as skipped:
        try_to_discard_preflight(context)
        with context.transaction() as (session, update):
            updates.skip_update(session, update, skipped.reason, utcnow())
    except INFRASTRUCTURE_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 - for any cause the bot has to run again
        context.log_failure(f"update %s failed in step {context.update.step}: %s", error)
        # Before the stop nothing has to be undone. Later, the row stays as it is until the engine answers.
        if phase is not _BEFORE_STOP and is_engine_trouble(error):
            context.require_engine()
        phase.on_failure(context, error)
    else:
        return True
    return False
