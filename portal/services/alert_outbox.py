"""The outbox of alerts: one row per event and channel, in the transaction of the event. Used by `services.events`."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import AlertChannel, AlertDelivery, Event
from portal.rules import alert_events


def queue_alerts(session: Session, event: Event) -> None:
    """Queue a message about an event for each channel that wants it. Paused channels get none.

    Args:
        session: the transaction of the event.
        event: the event, which has its id.
    """
    if event.tag not in alert_events.TAGS:
        return
    channels = session.execute(sa.select(AlertChannel.id, AlertChannel.tags).where(AlertChannel.paused_at.is_(None)))
    wanted = [channel_id for channel_id, tags in channels if event.tag in tags]
    if wanted:
        session.add_all(AlertDelivery(channel_id=channel_id, event_id=event.id) for channel_id in sorted(wanted))
        session.flush()
