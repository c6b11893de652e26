"""Listens to messages about changed rows. Used by the gateway's process.

Messages only make the gateway faster. While Redis is down it reads the database every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from portal.change_messages import CHANNEL, parse_message

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


async def listen(redis_url: str, on_change: Callable[[set[str]], None]) -> None:
    """Call `on_change` with the ids of every message, until this task is cancelled.

    Args:
        redis_url: the Redis server.
        on_change: called in the event loop.
    """
    is_reported = False
    while True:
        try:
            client = Redis.from_url(redis_url, socket_connect_timeout=2, health_check_interval=10)
            async with client as redis, redis.pubsub(ignore_subscribe_messages=True) as subscription:
                await subscription.subscribe(CHANNEL)
                is_reported = False
                async for message in subscription.listen():
                    on_change(parse_message(message["data"]))
        except (RedisError, OSError) as error:
            if not is_reported:
                logger.warning("no messages about changes, because Redis does not answer: %s", type(error).__name__)
            is_reported = True
        await asyncio.sleep(_RETRY_SECONDS)
