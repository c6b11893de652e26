"""Messages to the gateway about changed rows, by Redis. Used by the owners of transactions and by the gateway.

A message is a JSON list of ids of users, organizations and bots. It only says that decisions about them may have
changed; the gateway reads the database to find out.
"""

from __future__ import annotations

import json
import logging

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from portal.services import changes

logger = logging.getLogger(__name__)

CHANNEL = "flotilla:changes"


def publish_changes(redis: Redis, session: Session) -> None:
    """Publish the ids that a transaction has changed. Call it after the commit.

    A failure is harmless: the gateway reads the database again within seconds.
    """
    ids = changes.take_changes(session)
    if not ids:
        return
    try:
        redis.publish(CHANNEL, json.dumps(sorted(ids)))
    except RedisError as error:
        logger.warning("could not tell the gateway about a change: %s", type(error).__name__)


def parse_message(message: bytes | str) -> set[str]:
    """Return the ids of a message. A message in another format is empty."""
    try:
        ids = json.loads(message)
    except (ValueError, RecursionError):
        return set()
    return {found for found in ids if isinstance(found, str)} if isinstance(ids, list) else set()
