"""Recording of events, with request id, address and actor. Used by every service that changes something."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from sqlalchemy.orm import Session

from portal.models import Event, EventPersonalData, EventTag, User
from portal.rules import email_addresses
from portal.services import alert_outbox, changes

current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the current web request or job, for logs and events."""
current_address: ContextVar[str | None] = ContextVar("address", default=None)
"""Network address of the browser that sent the current request."""
acting_via: ContextVar[str | None] = ContextVar("acting_via", default=None)
"""Tool through which a user acts who is not signed in, such as the command line, for events."""

_PERSONAL_CHANGES = frozenset({EventTag.USER_EMAIL_CHANGED, EventTag.USER_RENAMED})
"""Tags of events whose old and new values are personal data."""

Actor = User | str | None
"""The user who acted, or that user's id; None where Flotilla acted automatically."""


def record(
    session: Session,
    tag: EventTag,
    *,
    actor: Actor = None,
    org_id: str | None = None,
    bot_id: str | None = None,
    rollout_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Record an event in the transaction of the change that it describes.

    Args:
        session: the transaction of the change.
        tag: `subject.what_happened`, such as `rollout.started`.
        actor: the user who acted, or that user's id; None where Flotilla acted automatically.
        org_id: the organization that the event is about.
        bot_id: the bot that the event is about.
        rollout_id: the rollout that the event is about.
        data: small facts (digests, versions, old and new values); never a secret. Email addresses and names of people
            are stored apart from the event, because the event itself can never be erased.
    """
    via = acting_via.get()
    facts = {**(data or {}), **({"via": via} if via else {})}
    personal = {key: facts.pop(key) for key in _list_personal_keys(tag, facts)}
    event = Event(
        tag=tag,
        actor_id=actor.id if isinstance(actor, User) else actor,
        org_id=org_id,
        bot_id=bot_id,
        rollout_id=rollout_id,
        data=facts,
        request_id=current_request_id.get(),
        address=current_address.get(),
    )
    if personal:
        email = personal.get("email")
        event.personal = EventPersonalData(
            user_id=facts.get("user_id"),
            email_normalized=email_addresses.normalize(email) if email else None,
            data=personal,
        )
    session.add(event)
    session.flush()
    alert_outbox.queue_alerts(session, event)
    changes.note_change(session, org_id, bot_id, event.actor_id, facts.get("user_id"))
    return event


def _list_personal_keys(tag: EventTag, facts: dict[str, Any]) -> list[str]:
    keys = ("email", "old", "new") if tag in _PERSONAL_CHANGES else ("email",)
    return [key for key in keys if key in facts]
