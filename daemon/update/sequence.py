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
from daemon.errors import UpdateFailed
from daemon.update import steps
from daemon.update.finish import clean, commit
from daemon.update.preflight import NothingToDo, preflight
from daemon.update.recovery import recover
from daemon.update.rollback import abandon, roll_back, undo
from daemon.update.update_context import NOT_OURS_TO_JUDGE, Run, words
from portal.database import Database
from portal.models import BotUpdate, Step
from portal.services.bots.leases import BotBusy, LeaseLost
from portal.services.rollouts import updates
from portal.services.rollouts.updates import Claim
from portal.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Phase:
    """Steps that share one way back."""

    steps: Sequence[tuple[Step, Callable[[Run], None]]]
    way_back: Callable[[Run, Exception], None]


# The claim comes before: step 1. Until the stop, giving up changes nothing.
_PREPARATION = _Phase(
    (
        (Step.PREFLIGHT, preflight),
        (Step.PULL, steps.pull),
        (Step.CAPTURE, steps.capture),
        (Step.PRECREATE, steps.precreate),
    ),
    abandon,
)
# Until the start no new code has touched the data: the old container simply starts again.
_STANDSTILL = _Phase(
    (
        (Step.STOP, steps.stop),
        (Step.SNAPSHOT, steps.snapshot),
        (Step.SWAP, steps.swap),
    ),
    undo,
)
# From the start on, volumes and container go back together. The commit comes after: step 11.
_TRIAL = _Phase(
    (
        (Step.START, steps.start),
        (Step.HEALTH, steps.await_health),
    ),
    roll_back,
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
        earlier = updates.unfinished_before(session, update)
    try:
        with BotLease(database, update.bot_id) as lease:
            for each in (*earlier, update_id):
                _work(settings, lease, each)
    except (BotBusy, LeaseLost) as reason:
        logger.info("update %s is left to another worker: %s", update_id, reason)
    except UpdateFailed as error:
        # The engine does not answer, or something could not be removed; whoever looks next goes on from here.
        logger.warning("update %s waits: %s", update_id, error)


def _work(settings: Settings, lease: BotLease, update_id: str) -> None:
    with lease.transaction() as session:
        claim = updates.claim(session, update_id)
    if claim is Claim.NOTHING:
        return
    with closing(Run(settings, lease, update_id)) as run:
        match claim:
            case Claim.START:
                _walk(run, _PREPARATION, _STANDSTILL, _TRIAL)
            case Claim.RECOVER if recover(run):
                _walk(run, _TRIAL)
            case Claim.CLEAN:
                _clean_if_possible(run)


def _clean_if_possible(run: Run) -> None:
    # It is tried again until it works. The next update of the bot need not wait for that: whatever of this one is
    # really in its way, its own preflight finds and tells.
    try:
        clean(run)
    except NOT_OURS_TO_JUDGE:
        raise
    except Exception as error:
        logger.warning("what update %s left could not be removed: %s", run.update.id, words(error), exc_info=error)


def _walk(run: Run, *phases: _Phase) -> None:
    for phase in phases:
        if not _completed(run, phase):
            return
    commit(run)


def _completed(run: Run, phase: _Phase) -> bool:
    try:
        for step, act in phase.steps:
            run.enter(step)
            act(run)
    except NothingToDo as nothing:
        with run.write() as (session, update):
            updates.skip(session, update, nothing.reason)
    except NOT_OURS_TO_JUDGE as error:
        if phase is not _PREPARATION or not isinstance(error, EngineUnreachable):
            raise
        abandon(run, error)
    except Exception as error:  # whatever it was, the bot comes first
        logger.warning("update %s failed in step %s", run.update.id, run.update.step, exc_info=error)
        phase.way_back(run, error)
    else:
        return True
    return False
