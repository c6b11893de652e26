"""What workers read from nodes for a page, such as the log of a bot, and keep in Redis for a short time.

The portal has no access to engines: it requests a reading, and shows the latest one. Nothing here is needed to keep
working; if Redis loses it, it is read again.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from portal.queue import READINGS_QUEUE, JobName, enqueue

logger = logging.getLogger(__name__)

KEEP_SECONDS = 60
_WAIT_STEP_SECONDS = 0.05


class Reading(StrEnum):
    """What can be read of a bot."""

    LOG = "log"
    """The latest lines of its log."""
    LONG_LOG = "long-log"
    """Many lines of its log, for a search or a download."""
    RESOURCE_USE = "resource-use"
    """CPU and memory that it uses."""


_JOBS = {
    Reading.LOG: JobName.READ_LOG,
    Reading.LONG_LOG: JobName.READ_LONG_LOG,
    Reading.RESOURCE_USE: JobName.READ_RESOURCE_USE,
}
_REPEAT_SECONDS = {Reading.LOG: 2, Reading.LONG_LOG: 10, Reading.RESOURCE_USE: 4}
"""Time between two readings of one bot, however many people watch it."""


def request(redis: Redis, reading: Reading, bot_id: str) -> bool:
    """Let a worker read, unless that was requested a moment ago.

    Returns:
        False if Redis could not be reached.
    """
    try:
        is_due = redis.set(f"{_key(reading, bot_id)}:requested", "", nx=True, ex=_REPEAT_SECONDS[reading])
    except RedisError as error:
        logger.warning("could not request a reading: %s", type(error).__name__)
        return False
    return not is_due or enqueue(redis, _JOBS[reading], bot_id, queue=READINGS_QUEUE)


def store(redis: Redis, reading: Reading, bot_id: str, content: dict[str, Any], now: datetime) -> None:
    """Keep what was read for `KEEP_SECONDS`.

    Args:
        redis: a client.
        reading: what was read.
        bot_id: the bot.
        content: values that JSON can represent; never a secret.
        now: the moment of the reading.
    """
    text = json.dumps({**content, "at": now.isoformat()})
    redis.set(_key(reading, bot_id), text, ex=KEEP_SECONDS)


def load(redis: Redis, reading: Reading, bot_id: str) -> dict[str, Any] | None:
    """Return what was read last, with its moment as `at`; None if there is nothing, or Redis does not answer."""
    try:
        text = redis.get(_key(reading, bot_id))
    except RedisError as error:
        logger.warning("could not load a reading: %s", type(error).__name__)
        return None
    return _parse(text) if isinstance(text, str | bytes) else None


def wait(redis: Redis, reading: Reading, bot_id: str, seconds: float) -> dict[str, Any] | None:
    """Request a reading, and wait for it unless there is one already. Do not call it inside a transaction."""
    deadline = time.monotonic() + seconds
    while request(redis, reading, bot_id):
        found = load(redis, reading, bot_id)
        if found is not None or time.monotonic() >= deadline:
            return found
        time.sleep(_WAIT_STEP_SECONDS)
    return None


def _key(reading: Reading, bot_id: str) -> str:
    return f"flotilla:reading:{reading}:{bot_id}"


def _parse(text: str | bytes) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(text)
    return {**content, "at": datetime.fromisoformat(content["at"])}
