"""Sending the messages that wait for one channel. Used by the job `send_alerts`.

1. Claim the channel.
2. Take its next message and count the attempt.
3. Compose the message from the event and send it.
4. Record the outcome, and continue with the next message until none is left or the time is over.

If a worker dies in between, the channel stays claimed for a moment. Then the message is sent again with the same id.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime

from daemon.alerts.formats import AlertRequest, build_request
from daemon.alerts.messages import compose
from daemon.alerts.posting import Refused, Unavailable, post
from portal.database import Database
from portal.models import AlertChannel, AlertDelivery, utcnow
from portal.services.alerts import delivery
from portal.settings import Settings

MAX_SECONDS = 30.0
"""A channel with many messages makes room for the others after this time. The rest follows with the next job."""

logger = logging.getLogger(__name__)


def send_alerts(database: Database, settings: Settings, channel_id: str, now: datetime) -> None:
    """Send the messages of a channel in their order, unless another worker does.

    Args:
        database: where the messages are.
        settings: the address of the portal and the product's name.
        channel_id: the channel.
        now: the moment at which the claim begins. Outcomes are recorded with the moments at which they are known.
    """
    with database.transaction() as session:
        channel = delivery.claim(session, channel_id, now)
        if channel is None:
            delivery.delete_of_missing_channels(session)
            return
    ends_at = time.monotonic() + MAX_SECONDS
    while time.monotonic() < ends_at:
        with database.transaction() as session:
            message = delivery.take_next(session, channel)
        if message is None:
            break
        if not _send(database, settings, channel, message):
            return
    with database.transaction() as session:
        delivery.release(session, channel, utcnow())


def _send(database: Database, settings: Settings, channel: AlertChannel, message: AlertDelivery) -> bool:
    """Send one message and record the outcome. Return False if the channel has to wait now."""
    try:
        post(_build_request(database, settings, message), utcnow())
    except Refused as error:
        _log_failure(channel, message, "was refused", error)
        with database.transaction() as session:
            delivery.mark_refused(session, channel, message, str(error), utcnow())
    except Unavailable as error:
        _log_failure(channel, message, "will be retried", error)
        with database.transaction() as session:
            delivery.mark_deferred(session, channel, message, str(error), utcnow(), wait=error.wait)
        return False
    except Exception as error:
        with database.transaction() as session:
            reason = f"Internal error ({type(error).__name__}). See the worker's log for details."
            delivery.mark_deferred(session, channel, message, reason, utcnow())
        raise
    else:
        with database.transaction() as session:
            delivery.mark_delivered(session, channel, message, utcnow())
    return True


def _build_request(database: Database, settings: Settings, message: AlertDelivery) -> AlertRequest:
    with database.reading() as session:
        channel, alert = session.get(AlertChannel, message.channel_id), compose(session, settings, message)
        if channel is None or alert is None:
            raise Refused("The channel or the event of this message does not exist any more.")
        return build_request(channel, alert, utcnow())


def _log_failure(channel: AlertChannel, message: AlertDelivery, outcome: str, error: Exception) -> None:
    logger.warning(
        "alert %s for %s (attempt %d) %s: %s", message.message_id, channel.name, message.attempts, outcome, error
    )
