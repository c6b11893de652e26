"""The `flotilla scheduler` process: of all that run, one leads and asks the workers for whatever is due.

It decides from the database alone, every second anew, and keeps nothing in mind. Messages are only hints: sending one
twice does no harm, and one that got lost is sent again as long as the database shows the matter as due.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from daemon.context import Context
from daemon.rollout import orchestrator
from portal.models import NodeState, new_id, utcnow
from portal.queue import DEFAULT_QUEUE, JobName, enqueue, open_queue, updates_queue_name
from portal.services import leases
from portal.services.bots import desired_state, nodes, purging
from portal.services.leases import HeldLease
from portal.services.mail import delivery
from portal.services.orgs import transfers
from portal.services.releases import changelogs, polling

logger = logging.getLogger(__name__)

LEASE = "scheduler"
LEASE_DURATION = timedelta(seconds=10)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_TURN_SECONDS = 1.0
_LONGEST_BACKOFF_SECONDS = 10.0
# A queue this long is not being worked off; more of the same would only delay what comes after.
_LONGEST_QUEUE = 500


@dataclass(frozen=True)
class DueJob:
    """A job somebody should run, and how many seconds pass before it may be asked for again."""

    job: JobName
    argument: str
    again_after: int
    queue: str = DEFAULT_QUEUE


class Scheduler:
    """One scheduler process; it leads while it holds the lease.

    Args:
        context: settings, database and Redis.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._owner = f"{socket.gethostname()[:30]}-{os.getpid()}-{new_id()}"
        self._lease: HeldLease | None = None
        self._redis_answers = True
        self._failures = 0

    def run(self) -> None:
        """Take turns until SIGTERM or SIGINT, then give the lease back."""
        # Blocked and waited for between turns: a handler would cut a turn somewhere in the middle.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        logger.info("scheduler %s starts", self._owner)
        while not signal.sigtimedwait(STOP_SIGNALS, self._take_turn()):
            pass
        self.step_down()
        logger.info("scheduler %s ends", self._owner)

    def turn(self, now: datetime) -> bool:
        """Lead if nobody else does, and then ask for what is due.

        Returns:
            Whether this process leads.
        """
        if not self._lead():
            return False
        self._ask(list(self._wishes(now)))
        return True

    def step_down(self) -> None:
        """Give the lease back, so that another scheduler leads at once."""
        held, self._lease = self._lease, None
        if held is not None:
            with suppress(SQLAlchemyError), self._context.database.transaction() as session:
                leases.release(session, held)

    def _take_turn(self) -> float:
        """One turn whatever happens, and the seconds to wait before the next."""
        started = time.monotonic()
        try:
            self.turn(utcnow())
        except SQLAlchemyError as error:
            if not self._failures:
                logger.warning("the database cannot be used, trying on: %s", type(error).__name__)
            self._failures += 1
        except Exception:
            logger.exception("a turn failed")
            self._failures += 1
        else:
            if self._failures:
                logger.info("turns succeed again")
            self._failures = 0
        pause = min(_TURN_SECONDS * 2.0 ** min(self._failures, 10), _LONGEST_BACKOFF_SECONDS)
        return max(0.0, pause - (time.monotonic() - started))

    def _lead(self) -> bool:
        with self._context.database.transaction() as session:
            if self._lease is not None and not leases.renew(session, self._lease, LEASE_DURATION):
                logger.warning("the lead was lost")
                self._lease = None
            if self._lease is None:
                self._lease = leases.acquire(session, LEASE, self._owner, LEASE_DURATION)
                if self._lease is not None:
                    logger.info("leading from now on")
        return self._lease is not None

    def _wishes(self, now: datetime) -> Iterator[DueJob]:
        database = self._context.database
        with database.transaction() as session:
            due_images = polling.schedule_due(session, now, self._context.settings.poll_every)
            due_changelogs = changelogs.list_due(session, now)
            due_mails = delivery.list_due(session, now)
            wanted = desired_state.list_pending(session)
            transfers.expire_offers(session, now)
            to_remove = purging.list_due(session, now)
            purging.close_deleted_orgs(session, now)
            all_nodes = nodes.list_nodes(session)
        for image in due_images:
            yield DueJob(JobName.POLL_IMAGE, image, 5)
        for mail_id in due_mails:
            yield DueJob(JobName.SEND_MAIL, mail_id, 5)
        if any(node.state is NodeState.ACTIVE for node in all_nodes):
            for release_id in due_changelogs:
                yield DueJob(JobName.READ_CHANGELOG, release_id, 30)
        due_updates = orchestrator.tick(database, now)
        # A silent node is only asked whether it answers again: anything else would hold up a worker in vain.
        silent = {node.id for node in all_nodes if node.last_error is not None}
        for update_id, node_id in _except(silent, due_updates):
            yield DueJob(JobName.UPDATE_BOT, update_id, 10, updates_queue_name(node_id))
        for bot_id, node_id in _except(silent, wanted):
            yield DueJob(JobName.APPLY_DESIRED_STATE, bot_id, 15, updates_queue_name(node_id))
        for bot_id, node_id in _except(silent, to_remove):
            yield DueJob(JobName.PURGE_BOT, bot_id, 60, updates_queue_name(node_id))
        for node in all_nodes:
            yield DueJob(JobName.PROBE_NODE, node.id, 60 if node.id in silent else 15)
            if node.id not in silent:
                yield DueJob(JobName.COLLECT_NODE, node.id, 3600)
        yield DueJob(JobName.DELETE_EXPIRED, "old rows", 3600)

    def _ask(self, jobs: list[DueJob]) -> None:
        redis = self._context.redis
        try:
            for job in jobs:
                # Remembered in Redis itself: when Redis loses the messages, it loses the memory of them too.
                reminder = f"flotilla:asked:{job.job}:{job.argument}"
                if open_queue(redis, job.queue).count < _LONGEST_QUEUE and redis.set(
                    reminder, "", nx=True, ex=job.again_after
                ):
                    enqueue(redis, job.job, job.argument, queue=job.queue)
        except RedisError as error:
            if self._redis_answers:
                logger.warning("Redis cannot be reached, trying on: %s", type(error).__name__)
            self._redis_answers = False
            return
        if not self._redis_answers:
            logger.info("Redis answers again")
        self._redis_answers = True


def _except(silent: set[str], due: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is due, by id and node, on the nodes that answer."""
    return [(each, node_id) for each, node_id in due if node_id not in silent]
