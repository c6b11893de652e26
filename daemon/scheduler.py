"""The `flotilla scheduler` process: the leading scheduler enqueues due jobs every second.

It keeps no state: each tick reads the database again. Jobs are idempotent hints. The scheduler enqueues a job again
for as long as the database shows the work as due.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from daemon.bots.requested_bots import fulfil_requests
from daemon.context import Context
from daemon.rollout import orchestrator
from portal.models import NodeState, new_id, utcnow
from portal.queue import (
    ALERTS_QUEUE,
    CREATION_RETRIES_QUEUE,
    CREATIONS_QUEUE,
    DOWNLOADS_QUEUE,
    MAIL_QUEUE,
    MAIL_RETRIES_QUEUE,
    POLLS_QUEUE,
    PROBES_QUEUE,
    SLOW_POLLS_QUEUE,
    SYNC_RETRIES_QUEUE,
    SYNCS_QUEUE,
    DueJob,
    JobName,
    enqueue_again,
    updates_queue_name,
)
from portal.services import fork_syncs, leases
from portal.services.alerts import delivery as alert_delivery
from portal.services.bots import creation_progress, desired_state, holds, nodes, purging
from portal.services.leases import HeldLease
from portal.services.mail import delivery
from portal.services.orgs import transfers
from portal.services.releases import changelogs, polling
from portal.services.syncs import selection

logger = logging.getLogger(__name__)

LEASE_DURATION = timedelta(seconds=10)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_TICK_SECONDS = 1.0
_MAX_BACKOFF_SECONDS = 10.0


class Scheduler:
    """One scheduler process. Of several processes only the one that holds the lease enqueues jobs.

    Args:
        context: settings, database and Redis.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._owner = f"{socket.gethostname()[:30]}-{os.getpid()}-{new_id()}"
        self._lease: HeldLease | None = None
        self._redis_reachable = True
        self._failures = 0

    def run(self) -> None:
        """Run a tick per second until SIGTERM or SIGINT, then release the lease."""
        # Signals are blocked and awaited between ticks, because a handler would interrupt a tick.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        logger.info("scheduler %s started", self._owner)
        while not signal.sigtimedwait(STOP_SIGNALS, self._tick_safely()):
            pass
        self.step_down()
        logger.info("scheduler %s stopped", self._owner)

    def tick(self, now: datetime) -> bool:
        """Acquire or renew the lease and, if that succeeds, enqueue all due jobs.

        Args:
            now: the current moment in UTC.

        Returns:
            Whether this process is the leader.
        """
        if not self._acquire_or_renew():
            return False
        self._enqueue_due(list(self._find_due_jobs(now)))
        return True

    def step_down(self) -> None:
        """Release the lease, so that another scheduler can lead at once."""
        held, self._lease = self._lease, None
        if held is not None:
            with suppress(SQLAlchemyError), self._context.database.transaction() as session:
                leases.release(session, held)

    def _tick_safely(self) -> float:
        """Run one tick, log any error, and return the seconds to wait before the next tick."""
        started = time.monotonic()
        try:
            self.tick(utcnow())
        except SQLAlchemyError as error:
            if not self._failures:
                logger.warning("the database cannot be used, retrying: %s", type(error).__name__)
            self._failures += 1
        except Exception:
            logger.exception("a tick failed")
            self._failures += 1
        else:
            if self._failures:
                logger.info("ticks succeed again")
            self._failures = 0
        pause = min(_TICK_SECONDS * 2.0 ** min(self._failures, 10), _MAX_BACKOFF_SECONDS)
        return max(0.0, pause - (time.monotonic() - started))

    def _acquire_or_renew(self) -> bool:
        with self._context.database.transaction() as session:
            if self._lease is not None and not leases.renew(session, self._lease, LEASE_DURATION):
                logger.warning("lost the lease")
                self._lease = None
            if self._lease is None:
                self._lease = leases.acquire(session, leases.SCHEDULER, self._owner, LEASE_DURATION)
                if self._lease is not None:
                    logger.info("became the leader")
        return self._lease is not None

    def _find_due_jobs(self, now: datetime) -> Iterator[DueJob]:
        database = self._context.database
        fulfil_requests(database, self._context.settings, now)
        with database.transaction() as session:
            due_polls = _find_due_polls(session, now, self._context.settings.poll_every)
            due_changelogs = changelogs.list_due(session, now)
            due_mails = _find_due_mails(session, now)
            due_alerts = alert_delivery.list_due(session, now)
            due_creations = _find_due_creations(session, now)
            pending_states = desired_state.list_pending(session)
            transfers.expire_offers(session, now)
            holds.end_expired(session, now)
            due_purges = purging.list_due(session, now)
            purging.close_deleted_orgs(session, now)
            all_nodes = nodes.list_nodes(session)
            due_syncs = _find_due_syncs(session, now)
        yield from due_polls
        yield from due_mails
        for channel_id in due_alerts:
            yield DueJob(JobName.SEND_ALERTS, channel_id, 5, ALERTS_QUEUE)
        yield from due_syncs
        if any(node.state is NodeState.ACTIVE for node in all_nodes):
            for release_id in due_changelogs:
                yield DueJob(JobName.READ_CHANGELOG, release_id, 30, DOWNLOADS_QUEUE)
        due_updates = orchestrator.tick(database, now, self._context.settings.health_check_timeout)
        # Unreachable nodes are only probed, because every other job would block a worker until its timeout.
        unreachable = {node.id for node in all_nodes if node.last_error is not None}
        for update_id, node_id in _without_nodes(due_updates, unreachable):
            yield DueJob(JobName.UPDATE_BOT, update_id, 10, updates_queue_name(node_id))
        yield from due_creations
        for bot_id, node_id in _without_nodes(pending_states, unreachable):
            yield DueJob(JobName.APPLY_DESIRED_STATE, bot_id, 15, updates_queue_name(node_id))
        for bot_id, node_id in _without_nodes(due_purges, unreachable):
            yield DueJob(JobName.PURGE_BOT, bot_id, 60, updates_queue_name(node_id))
        for node in all_nodes:
            yield DueJob(JobName.PROBE_NODE, node.id, 60 if node.id in unreachable else 15, PROBES_QUEUE)
            if node.id not in unreachable:
                yield DueJob(JobName.COLLECT_NODE, node.id, 3600)
        yield from self._find_due_sync(now)
        yield DueJob(JobName.DELETE_EXPIRED, "old rows", 3600)
        yield DueJob(JobName.QUEUE_SUMMARIES, "weekly", 3600)

    def _find_due_sync(self, now: datetime) -> Iterator[DueJob]:
        """Yield the sync of the bot's fork if it is configured and due."""
        upstream = self._context.settings.upstream
        if upstream.repo is None:
            return
        with self._context.database.reading() as session:
            is_due = fork_syncs.is_due(session, upstream.time_of_day, now)
        if is_due:
            yield DueJob(JobName.SYNC_UPSTREAM, "fork", 60, DOWNLOADS_QUEUE)

    def _enqueue_due(self, jobs: list[DueJob]) -> None:
        try:
            enqueue_again(self._context.redis, jobs)
        except RedisError as error:
            if self._redis_reachable:
                logger.warning("Redis cannot be reached, retrying: %s", type(error).__name__)
            self._redis_reachable = False
            return
        if not self._redis_reachable:
            logger.info("Redis can be reached again")
        self._redis_reachable = True


def _find_due_creations(session: Session, now: datetime) -> list[DueJob]:
    queues = {CREATIONS_QUEUE: False, CREATION_RETRIES_QUEUE: True}
    return [
        DueJob(JobName.CREATE_BOT, bot_id, 2, queue)
        for queue, repeated in queues.items()
        for bot_id in creation_progress.list_due(session, now, repeated=repeated)
    ]


def _find_due_polls(session: Session, now: datetime, every: timedelta | None) -> list[DueJob]:
    images = polling.schedule_due(session, now, every)
    slow = polling.select_slow(session, images)
    return [
        DueJob(JobName.POLL_SLOW_REGISTRY, image, 5, SLOW_POLLS_QUEUE)
        if image in slow
        else DueJob(JobName.POLL_IMAGE, image, 5, POLLS_QUEUE)
        for image in images
    ]


def _find_due_mails(session: Session, now: datetime) -> list[DueJob]:
    queues = {MAIL_QUEUE: delivery.list_due(session, now, repeated=False)}
    queues[MAIL_RETRIES_QUEUE] = delivery.list_due(session, now, repeated=True)
    return [
        DueJob(JobName.SEND_MAIL, mail_id, 5, queue) for queue, mail_ids in queues.items() for mail_id in mail_ids
    ]


def _find_due_syncs(session: Session, now: datetime) -> list[DueJob]:
    found = selection.find_due(session, now)
    due = [DueJob(JobName.SYNC_NODE, node_id, 5, SYNCS_QUEUE) for node_id in found.node_ids]
    if found.unanswering:
        due.append(DueJob(JobName.SYNC_UNANSWERING, "bots without an answer", 5, SYNC_RETRIES_QUEUE))
    return due


def _without_nodes(due: Iterable[tuple[str, str]], excluded: set[str]) -> list[tuple[str, str]]:
    """Return the due rows, given as pairs of row id and node id, that are not on the excluded nodes."""
    return [(row_id, node_id) for row_id, node_id in due if node_id not in excluded]
