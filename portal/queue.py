"""Handing work to the workers. The database is the truth: a message only says "look at this row"."""

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
    """Dotted names of the jobs that workers run. `daemon.jobs` defines one function for each."""

    POLL_IMAGE = "daemon.jobs.poll_image"
    READ_CHANGELOG = "daemon.jobs.read_changelog"
    UPDATE_BOT = "daemon.jobs.update_bot"
    APPLY_DESIRED_STATE = "daemon.jobs.apply_desired_state"
    PURGE_BOT = "daemon.jobs.purge_bot"
    PROBE_NODE = "daemon.jobs.probe_node"
    COLLECT_NODE = "daemon.jobs.collect_node"
    SEND_MAIL = "daemon.jobs.send_mail"
    DELETE_EXPIRED = "daemon.jobs.delete_expired"


def connect(url: str) -> Redis:
    """A client for the Redis at `url`; it connects when first used.

    It gives up quickly, for the database is the truth and whoever asks has better things to do than to wait. The one
    retry replaces a pooled connection that died while Redis restarted.
    """
    return Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))


def updates_queue_name(node_id: str) -> str:
    """Name of the queue of one node's bot updates, which last long and must not hold up polls and mail."""
    return f"updates-{node_id}"


def open_queue(redis: Redis, name: str = DEFAULT_QUEUE) -> Queue:
    """A queue whose messages are JSON, so that writing to Redis cannot make a worker run code."""
    return Queue(name, connection=redis, serializer=JSONSerializer)


def enqueue(redis: Redis, job: JobName, *arguments: str, queue: str = DEFAULT_QUEUE) -> bool:
    """Ask a worker to run `job`, a dotted name. Call it after the commit, with ids only.

    Asking twice is harmless, and so is asking in vain: the scheduler asks again whatever the database shows as due.

    Returns:
        False when Redis could not be reached.
    """
    try:
        # No time limit by signal: each step of a job has its own deadline, and a signal could not stop a C call.
        options: dict[str, Any] = {"job_timeout": -1, "result_ttl": 0, "failure_ttl": 86400}
        open_queue(redis, queue).enqueue(job, *arguments, **options)
    except RedisError as error:
        logger.warning("could not enqueue %s: %s", job, type(error).__name__)
        return False
    return True
