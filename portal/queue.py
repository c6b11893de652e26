"""Enqueueing of jobs in Redis. Used by the portal, commands and the scheduler.

Jobs are idempotent hints that name a row. The state is in the database, so lost jobs cause only a delay.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

logger = logging.getLogger(__name__)

DEFAULT_QUEUE = "default"


class JobName(StrEnum):
    """Dotted names of all jobs. `daemon.jobs` defines one function for each."""

    POLL_IMAGE = "daemon.jobs.poll_image"
    READ_CHANGELOG = "daemon.jobs.read_changelog"
    UPDATE_BOT = "daemon.jobs.update_bot"
    APPLY_DESIRED_STATE = "daemon.jobs.apply_desired_state"
    PURGE_BOT = "daemon.jobs.purge_bot"
    PROBE_NODE = "daemon.jobs.probe_node"
    COLLECT_NODE = "daemon.jobs.collect_node"
    SEND_MAIL = "daemon.jobs.send_mail"
    SYNC_UPSTREAM = "daemon.jobs.sync_upstream"
    DELETE_EXPIRED = "daemon.jobs.delete_expired"


def connect(url: str) -> Redis:
    """Return a client for the Redis at `url`, which connects on first use.

    Its timeouts are short, because callers can continue without Redis. The one retry replaces a pooled connection
    that broke when Redis restarted.
    """
    return Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))


def updates_queue_name(node_id: str) -> str:
    """Return the name of a node's queue for updates, which take long and must not delay polls and email."""
    return f"updates-{node_id}"


def open_queue(redis: Redis, name: str = DEFAULT_QUEUE) -> Queue:
    """Return a queue with JSON messages, because unpickling messages could run code from Redis."""
    return Queue(name, connection=redis, serializer=JSONSerializer)


def enqueue(redis: Redis, job: JobName, *arguments: str, queue: str = DEFAULT_QUEUE) -> bool:
    """Enqueue a job. Call it after the commit, and pass only ids.

    Enqueueing twice is harmless, and so is a failure: the scheduler enqueues everything that is due in the database.

    Returns:
        False if Redis could not be reached.
    """
    try:
        # No timeout: each step of a job has its own deadline, and RQ's timeout signal cannot interrupt calls in C.
        options: dict[str, Any] = {"job_timeout": -1, "result_ttl": 0, "failure_ttl": 86400}
        open_queue(redis, queue).enqueue(job, *arguments, **options)
    except RedisError as error:
        logger.warning("could not enqueue %s: %s", job, type(error).__name__)
        return False
    return True
