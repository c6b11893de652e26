"""What an alert says: a sentence, the organization, and a link to the page about it. Used by the formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.models import AlertDelivery, Bot, Event, EventTag
from portal.rules import alert_events
from portal.services.audit import log
from portal.services.audit.log import EventRow
from portal.settings import Settings

_TEST = "alert.test"
_MAX_SENTENCE = 1000
_WITHOUT_PEOPLE: dict[str, str] = {
    EventTag.MAIL_FAILED: "An email could not be delivered",
    EventTag.USER_OPERATOR_CREATED: "An operator account was created",
    EventTag.USER_OPERATOR_GRANTED: "A user became an operator",
}
"""Sentences for events whose usual sentence names a person. Alerts leave the platform, so they name none."""
_PAGES = {
    "fork": "/admin/upstream",
    "image": "/admin/releases",
    "mail": "/admin/mail/?state=failed",
    "node": "/admin/nodes",
    "user": "/admin/users",
}
"""The operators' page about an event, by its subject, where no page shows the row itself."""


@dataclass(frozen=True)
class Alert:
    """A message.

    Attributes:
        id: identifies the message; every attempt to send it has the same id.
        tag: the tag of the event, or `alert.test`.
        at: the moment of the event.
        sentence: what happened.
        product: the name of the product.
        link: the address of the page about it.
        is_trouble: whether it needs attention.
        org: name of the organization, or None.
        bot: name of the bot, or None.
        facts: ids and facts of the event without personal data, for programs.
    """

    id: str
    tag: str
    at: datetime
    sentence: str
    product: str
    link: str
    is_trouble: bool = False
    org: str | None = None
    bot: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The sentence with the organization."""
        return f"{self.sentence} ({self.org})" if self.org and self.org not in self.sentence else self.sentence


def compose(session: Session, settings: Settings, delivery: AlertDelivery) -> Alert | None:
    """Compose the message of a delivery.

    Returns:
        None if its event does not exist.
    """
    if delivery.event_id is None:
        sentence = f"This is a test message from {settings.product_name}. Alerts arrive here."
        return Alert(
            delivery.message_id,
            _TEST,
            delivery.created_at,
            sentence,
            settings.product_name,
            f"{settings.base_url}/admin/alerts/{delivery.channel_id}",
        )
    row = log.describe_by_id(session, [delivery.event_id]).get(delivery.event_id)
    return _compose(session, settings, delivery.message_id, row) if row else None


def _compose(session: Session, settings: Settings, message_id: str, row: EventRow) -> Alert:
    event = row.event
    bot = session.get(Bot, event.bot_id) if event.bot_id else None
    sentence = _WITHOUT_PEOPLE.get(event.tag, row.sentence)
    return Alert(
        id=message_id,
        tag=event.tag,
        at=event.at,
        sentence=sentence if len(sentence) <= _MAX_SENTENCE else sentence[: _MAX_SENTENCE - 1] + "…",
        product=settings.product_name,
        link=settings.base_url + _find_page(event, row, bot),
        is_trouble=event.tag in alert_events.TROUBLE,
        org=row.org.name if row.org else None,
        bot=bot.name if bot else None,
        facts={
            "event_id": event.id,
            "org_id": event.org_id,
            "bot_id": event.bot_id,
            "rollout_id": event.rollout_id,
            # Without `event.personal`: an alert leaves the platform.
            "data": event.data,
        },
    )


def _find_page(event: Event, row: EventRow, bot: Bot | None) -> str:
    if bot is not None and row.org is not None:
        return f"/o/{row.org.slug}/bots/{bot.id}"
    if event.rollout_id is not None:
        return f"/admin/rollouts/{event.rollout_id}"
    if release_id := event.data.get("release"):
        return f"/admin/releases/{release_id}"
    if row.org is not None:
        return f"/admin/orgs/{row.org.id}"
    return _PAGES.get(event.tag.partition(".")[0], "/admin/events")
