"""Enqueueing of jobs in Redis. Used by the portal, commands and the scheduler.

Jobs are idempotent hints that name a row. The state is in the database, so lost jobs cause only a delay.

A queue holds at most one message per job and argument. The queue itself shows which messages wait, so a worker that
dies after it has taken a message leaves nothing behind that blocks the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from portal.models import new_id

logger = logging.getLogger(__name__)

DEFAULT_QUEUE = "default"
MAIL_QUEUE = "mail"
"""First attempts to send an email. Slow mail servers delay only email, and only email delays email."""
MAIL_RETRIES_QUEUE = "mail-retries"
"""Later attempts. A recipient whose server never ends its answer delays the first attempts of others only once."""
PROBES_QUEUE = "probes"
"""Probes of nodes. Bots that hang hold a probe for up to 45 seconds, and must not delay updates and other jobs."""
SYNCS_QUEUE = "syncs"
"""Syncs of members into bots that answered last time."""
SYNC_RETRIES_QUEUE = "sync-retries"
"""Syncs of members into bots that did not answer last time, which may take long and must not delay the others."""
CREATIONS_QUEUE = "creations"
"""First attempts to create bots. An image that never becomes healthy occupies a worker for minutes."""
CREATION_RETRIES_QUEUE = "creation-retries"
"""Later attempts to create bots, which must not delay the first ones."""
POLLS_QUEUE = "polls"
"""Polls have a queue and workers of their own, so that slow registries cannot delay email, probes and updates."""
SLOW_POLLS_QUEUE = "slow-polls"
"""Polls of registries that were too slow for a quick poll. Slow registries delay only each other."""
ALERTS_QUEUE = "alerts"
"""Alerts. Receivers that do not answer delay only other alerts."""
DOWNLOADS_QUEUE = "downloads"
"""Changelogs need a pull and the sync of the fork needs a fetch. Both take minutes and must not delay polls."""
READINGS_QUEUE = "readings"
"""Readings for people who wait for them at a page, such as logs."""
_UPDATES_PREFIX = "updates-"
MAX_QUEUE_LENGTH = 500
"""No worker serves a queue of this length. More messages would only delay later ones."""

_PICKUP_SECONDS = 5
"""A worker that has taken a message claims its row within this time, unless the worker died."""


class JobName(StrEnum):
    """Dotted names of all jobs. `daemon.jobs` defines one function for each."""

    POLL_IMAGE = "daemon.jobs.poll_image"
    POLL_SLOW_REGISTRY = "daemon.jobs.poll_slow_registry"
    READ_CHANGELOG = "daemon.jobs.read_changelog"
    UPDATE_BOT = "daemon.jobs.update_bot"
    CREATE_BOT = "daemon.jobs.create_bot"
    APPLY_DESIRED_STATE = "daemon.jobs.apply_desired_state"
    PURGE_BOT = "daemon.jobs.purge_bot"
    PROBE_NODE = "daemon.jobs.probe_node"
    COLLECT_NODE = "daemon.jobs.collect_node"
    SEND_MAIL = "daemon.jobs.send_mail"
    SEND_ALERTS = "daemon.jobs.send_alerts"
    QUEUE_SUMMARIES = "daemon.jobs.queue_summaries"
    SYNC_NODE = "daemon.jobs.sync_node"
    SYNC_UNANSWERING = "daemon.jobs.sync_unanswering"
    READ_LOG = "daemon.jobs.read_log"
    READ_LONG_LOG = "daemon.jobs.read_long_log"
    READ_RESOURCE_USE = "daemon.jobs.read_resource_use"
    SYNC_UPSTREAM = "daemon.jobs.sync_upstream"
    DELETE_EXPIRED = "daemon.jobs.delete_expired"


@dataclass(frozen=True)
class DueJob:
    """A due job.

    Attributes:
        job: which job.
        argument: its argument, usually the id of a row.
        repeat_seconds: seconds after which the job is enqueued again, from the moment its message left the queue.
        queue: the queue of the job.
    """

    job: JobName
    argument: str
    repeat_seconds: int
    queue: str = DEFAULT_QUEUE


def connect(url: str) -> Redis:
    """Return a client for the Redis at `url`, which connects on first use.

    Its timeouts are short, because callers can continue without Redis. The one retry replaces a pooled connection
    that broke when Redis restarted.
    """
    return Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))


def updates_queue_name(node_id: str) -> str:
    """Return the name of a node's queue for updates, which take long and must not delay email."""
    return f"{_UPDATES_PREFIX}{node_id}"


def is_updates_queue(name: str) -> bool:
    """Return whether this is the queue of a node for updates."""
    return name.startswith(_UPDATES_PREFIX)


def open_queue(redis: Redis, name: str = DEFAULT_QUEUE) -> Queue:
    """Return a queue with JSON messages, because unpickling messages could run code from Redis."""
    return Queue(name, connection=redis, serializer=JSONSerializer)


class WaitingMessages:
    """The messages that wait in the queues, read once per queue.

    Args:
        redis: a client.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._keys: dict[str, list[str]] = {}

    def contains(self, job: JobName, argument: str, queue: str) -> bool:
        """Return whether a message for this job and argument waits in the queue."""
        return _message_key(job, argument) in self._read(queue)

    def add(self, job: JobName, argument: str, queue: str) -> bool:
        """Add a message to the queue. Return False when the queue is full."""
        waiting = self._read(queue)
        if len(waiting) >= MAX_QUEUE_LENGTH:
            return False
        # No timeout: each step of a job has its own deadline, and RQ's timeout signal cannot interrupt calls in C.
        options: dict[str, Any] = {"job_timeout": -1, "result_ttl": 0, "failure_ttl": 86400}
        # The random part keeps a waiting message apart from a running job: when the job ends, RQ deletes its data.
        key = _message_key(job, argument)
        open_queue(self._redis, queue).enqueue(job, argument, job_id=f"{key}-{new_id()}", **options)
        waiting.append(key)
        return True

    def read_all(self, queues: Iterable[str]) -> None:
        """Read some queues with one exchange."""
        names = sorted(set(queues))
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.lrange(open_queue(self._redis, name).key, 0, MAX_QUEUE_LENGTH - 1)
        for name, ids in zip(names, pipeline.execute(), strict=True):
            self._keys[name] = [job_id.decode().rpartition("-")[0] for job_id in ids]

    def _read(self, queue: str) -> list[str]:
        if queue not in self._keys:
            self.read_all([queue])
        return self._keys[queue]


def enqueue(redis: Redis, job: JobName, argument: str, *, queue: str = DEFAULT_QUEUE) -> bool:
    """Enqueue a job, unless it waits in the queue already. Call it after the commit, and pass only an id.

    A failure is harmless: the scheduler enqueues everything that is due in the database.

    Returns:
        False if Redis could not be reached.
    """
    waiting = WaitingMessages(redis)
    try:
        if waiting.contains(job, argument, queue) or waiting.add(job, argument, queue):
            redis.set(_marker(job, argument), "", ex=_PICKUP_SECONDS)
    except RedisError as error:
        logger.warning("could not enqueue %s: %s", job, type(error).__name__)
        return False
    return True


def enqueue_again(redis: Redis, due: Sequence[DueJob]) -> None:
    """Enqueue due jobs, except those that wait in a queue or left it less than `repeat_seconds` ago.

    Used by the scheduler at every tick, for as long as the database shows the jobs as due. Only those jobs that are
    enqueued cost an exchange with Redis each.

    Raises:
        RedisError: Redis could not be reached.
    """
    waiting = WaitingMessages(redis)
    waiting.read_all(each.queue for each in due)
    # The markers are in Redis too, so that losing the queues also loses the markers. A marker is renewed while the
    # message waits, so that it expires `repeat_seconds` after a worker took the message.
    markers = [_marker(each.job, each.argument) for each in due]
    found = redis.mget(markers) if markers else []
    pipeline = redis.pipeline(transaction=False)
    for each, marker, value in zip(due, markers, found, strict=True):
        message = (each.job, each.argument, each.queue)
        if waiting.contains(*message) or (value is None and waiting.add(*message)):
            pipeline.set(marker, "", ex=each.repeat_seconds)
    pipeline.execute()


def count_waiting(redis: Redis) -> int | None:
    """Count the messages that wait in all queues; None if Redis could not be reached."""
    try:
        with redis.pipeline(transaction=False) as pipeline:
            for queue in redis.smembers(Queue.redis_queues_keys):
                pipeline.llen(queue)
            lengths: list[int] = pipeline.execute()
    except RedisError:
        return None
    return sum(lengths)


def _message_key(job: JobName, argument: str) -> str:
    """Return the common part of the ids of all messages for this job and argument."""
    # RQ allows only letters, digits, `_` and `-` in an id.
    return f"{job.rpartition('.')[2]}-{sha256(argument.encode()).hexdigest()[:16]}"


def _marker(job: JobName, argument: str) -> str:
    return f"flotilla:asked:{job}:{argument}"
