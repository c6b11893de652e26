"""The jobs that sync bots: one for the bots of a node, one for all bots that did not answer last time.

A bot is found to be slow or hanging only by calling it. So the job of a node waits just a moment for each answer and
calls many bots at once, and leaves a bot that does not answer in that time to the other job, which is patient. Bots
that hang therefore delay the others once, by less than a moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy.orm import Session

from daemon.provision.bot_sync import Patience, sync_bot
from daemon.provision.client import CALL_SECONDS
from portal.database import Database
from portal.models import utcnow
from portal.services.syncs import claims, company_calls, failures, selection
from portal.services.syncs.claims import Claim, ClaimLost
from portal.services.syncs.failures import Failure, FailureKind

logger = logging.getLogger(__name__)

_JOB_SECONDS = 5.0
"""After this time a job begins no further call, so that other nodes and newer changes get their turn."""
_CLAIM_MARGIN_SECONDS = 10.0
_MAX_BOTS = 500


@dataclass(frozen=True)
class Lane:
    """How a job calls bots.

    Attributes:
        call_seconds: time limit of one exchange.
        parallel: largest number of bots that are called at once.
    """

    call_seconds: float
    parallel: int

    @property
    def claim_duration(self) -> timedelta:
        """Duration of a claim: longer than a call, which may try two secrets."""
        return timedelta(seconds=2 * self.call_seconds + _CLAIM_MARGIN_SECONDS)


FAST_LANE = Lane(call_seconds=3.0, parallel=32)
SLOW_LANE = Lane(call_seconds=CALL_SECONDS, parallel=64)


def sync_node(database: Database, node_id: str, lane: Lane = FAST_LANE) -> bool:
    """Sync the due bots of a node that answered last time. Return whether some are left."""
    with database.reading() as session:
        due = selection.list_due_bots(session, utcnow(), node_id, _MAX_BOTS)
    return _sync_bots(database, due, lane)


def sync_unanswering(database: Database, lane: Lane = SLOW_LANE) -> None:
    """Sync the due bots of all nodes that did not answer last time."""
    with database.reading() as session:
        due = selection.list_due_unanswering(session, utcnow(), lane.parallel)
    _sync_bots(database, due, lane)


def _sync_bots(database: Database, bot_ids: Sequence[str], lane: Lane) -> bool:
    """Sync bots in parallel. Return whether the time was over before all were synced."""
    patience = Patience(lane.call_seconds, time.monotonic() + _JOB_SECONDS)
    sync = partial(_sync_claimed, database, lane, patience)
    with ThreadPoolExecutor(lane.parallel) as pool:
        list(pool.map(sync, bot_ids))
    return bool(bot_ids) and time.monotonic() >= patience.ends_at


def _sync_claimed(database: Database, lane: Lane, patience: Patience, bot_id: str) -> None:
    """Claim a bot and sync it. No bot and no row affects the sync of other bots."""
    if time.monotonic() >= patience.ends_at:
        return
    with database.transaction() as session:
        claim = claims.claim_bot(session, bot_id, lane.claim_duration)
    if claim is None:
        return
    with suppress(ClaimLost):
        try:
            sync_bot(database, claim, patience)
        except ClaimLost:
            raise
        except Exception as error:
            logger.exception("the sync of bot %s failed", bot_id)
            _write(database, partial(_record_error, claim=claim, error=error))
        finally:
            _write(database, partial(claims.release, claim=claim))


def _record_error(session: Session, claim: Claim, error: Exception) -> None:
    """Record an unexpected error, and call the bot later."""
    reason = f"error in Flotilla ({type(error).__name__}); the worker's log has the details"
    company_calls.record_failure(session, claim, Failure(FailureKind.BAD_ANSWER, reason), utcnow())
    failures.record_no_answer(session, claim, utcnow())


def _write(database: Database, change: Callable[[Session], object]) -> None:
    with database.transaction() as session:
        change(session)
