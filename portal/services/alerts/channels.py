"""Alert channels: add, change, pause, resume, test and delete them. Used by pages and commands."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import AlertChannel, AlertDelivery, AlertFormat, AlertState, EventTag, move
from portal.services import events
from portal.services.alerts.channel_spec import ChannelSpec, check
from portal.services.errors import ConflictError, InvalidError, NotFoundError, StaleError
from portal.services.events import Actor

MAX_CHANNELS = 50

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of the specification Standard Webhooks


def get(session: Session, channel_id: str) -> AlertChannel:
    """Return a channel.

    Raises:
        NotFoundError: it does not exist.
    """
    channel = session.get(AlertChannel, channel_id)
    if channel is None:
        raise NotFoundError("This alert channel does not exist.")
    return channel


def get_by_name(session: Session, name: str) -> AlertChannel:
    """Return the channel with this name.

    Raises:
        NotFoundError: there is none.
    """
    channel = session.scalars(sa.select(AlertChannel).where(AlertChannel.name == name)).one_or_none()
    if channel is None:
        raise NotFoundError(f"There is no alert channel named {name}.")
    return channel


def add(session: Session, spec: ChannelSpec, *, actor: Actor) -> AlertChannel:
    """Add a channel. A channel with JSON gets a generated signing secret, which is shown once.

    Raises:
        InvalidError: a value is invalid; the error names its field.
        ConflictError: another channel has this name, or there are too many channels.
    """
    values = check(spec)
    if "url" not in values:
        raise InvalidError("Enter a URL.", "url")
    if (session.scalar(sa.select(sa.func.count(AlertChannel.id))) or 0) >= MAX_CHANNELS:
        raise ConflictError(f"There are {MAX_CHANNELS} channels already. Delete one first.")
    if spec.format is AlertFormat.JSON:
        values["secret"] = generate_secret()
    channel = AlertChannel(**values)
    try:
        with session.begin_nested():
            session.add(channel)
    except IntegrityError:
        raise ConflictError(f"Another channel is named {spec.name}. Choose another name.") from None
    _record(session, EventTag.ALERT_CHANNEL_ADDED, channel, actor=actor)
    return channel


def change(session: Session, channel: AlertChannel, spec: ChannelSpec, *, seen: int, actor: Actor) -> None:
    """Change a channel, and send what waits at once.

    Args:
        session: a writing transaction.
        channel: the channel.
        spec: the new values. The format cannot be changed.
        seen: the version that the form has shown.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: a value is invalid; the error names its field.
        StaleError: another operator changed the channel in the meantime.
        ConflictError: another channel has this name.
    """
    _lock(session, channel, seen)
    values = check(spec)
    old = {"name": channel.name, "host": channel.host, "events": len(channel.tags)}
    try:
        with session.begin_nested():
            for name, value in values.items():
                setattr(channel, name, value)
            _attempt_again(channel)
            session.flush()
    except IntegrityError:
        raise ConflictError(f"Another channel is named {spec.name}. Choose another name.") from None
    new = {"name": channel.name, "host": channel.host, "events": len(channel.tags)}
    _record(session, EventTag.ALERT_CHANNEL_CHANGED, channel, actor=actor, old=old, new=new)


def pause(session: Session, channel: AlertChannel, now: datetime, *, seen: int, actor: Actor) -> None:
    """Pause a channel. Events of the time of the pause are never sent; what waited before stays.

    Raises:
        StaleError: another operator changed the channel in the meantime.
    """
    _lock(session, channel, seen)
    if channel.paused_at is not None:
        return
    channel.paused_at, channel.pause_reason = now, None
    channel.version += 1
    _record(session, EventTag.ALERT_CHANNEL_PAUSED, channel, actor=actor)


def resume(session: Session, channel: AlertChannel, *, seen: int, actor: Actor) -> None:
    """Resume a paused channel, and send what waits at once.

    Raises:
        StaleError: another operator changed the channel in the meantime.
    """
    _lock(session, channel, seen)
    if channel.paused_at is None:
        return
    channel.paused_at = channel.pause_reason = None
    _attempt_again(channel)
    _record(session, EventTag.ALERT_CHANNEL_RESUMED, channel, actor=actor)


def delete(session: Session, channel: AlertChannel, *, actor: Actor) -> None:
    """Delete a channel with its messages."""
    _record(session, EventTag.ALERT_CHANNEL_DELETED, channel, actor=actor)
    session.execute(sa.delete(AlertDelivery).where(AlertDelivery.channel_id == channel.id))
    session.delete(channel)
    session.flush()


def renew_secret(session: Session, channel: AlertChannel, *, seen: int, actor: Actor) -> str:
    """Replace the signing secret of a channel and return the new one, which is shown once.

    Raises:
        StaleError: another operator changed the channel in the meantime.
        ConflictError: messages of this format are not signed.
    """
    _lock(session, channel, seen)
    if channel.format is not AlertFormat.JSON:
        raise ConflictError("Only channels with JSON have a signing secret.")
    channel.secret = generate_secret()
    channel.version += 1
    _record(session, EventTag.ALERT_CHANNEL_CHANGED, channel, actor=actor, note="new signing secret")
    return channel.secret


def send_test(session: Session, channel: AlertChannel) -> AlertDelivery:
    """Queue a test message, which is sent within seconds.

    Raises:
        ConflictError: the channel is paused, or a test message waits already.
    """
    session.refresh(channel, with_for_update=True)
    if channel.paused_at is not None:
        raise ConflictError("The channel is paused. Resume it first.")
    waiting = sa.select(AlertDelivery.id).where(
        AlertDelivery.channel_id == channel.id,
        AlertDelivery.event_id.is_(None),
        AlertDelivery.state == AlertState.PENDING,
    )
    if session.scalars(waiting.limit(1)).first() is not None:
        raise ConflictError("A test message waits already.")
    _attempt_again(channel)
    delivery = AlertDelivery(channel_id=channel.id, event_id=None)
    session.add(delivery)
    session.flush()
    return delivery


def resend(session: Session, channel: AlertChannel, message_id: str) -> None:
    """Send a refused message again.

    Raises:
        NotFoundError: the channel has no such message.
        ConflictError: the message was not refused.
    """
    mine = sa.select(AlertDelivery).where(
        AlertDelivery.channel_id == channel.id, AlertDelivery.message_id == message_id
    )
    delivery = session.scalars(mine).one_or_none()
    if delivery is None:
        raise NotFoundError("This message does not exist.")
    if delivery.state is not AlertState.FAILED or not move(
        session, delivery, AlertState.FAILED, AlertState.PENDING, attempts=0, finished_at=None
    ):
        raise ConflictError("Only refused messages can be sent again.")


def generate_secret() -> str:
    """Return a new signing secret of 256 random bits."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _lock(session: Session, channel: AlertChannel, seen: int) -> None:
    session.refresh(channel, with_for_update=True)
    if channel.version != seen:
        raise StaleError("Another operator changed this channel. Check the current values and try again.")


def _attempt_again(channel: AlertChannel) -> None:
    """Forget earlier failures. The worker that is sending now loses its claim and stops after its message."""
    channel.failing_since, channel.failures = None, 0
    channel.next_attempt_at = channel.created_at
    channel.version += 1


def _record(session: Session, tag: EventTag, channel: AlertChannel, *, actor: Actor, **data: Any) -> None:
    facts = {"channel": channel.id, "name": channel.name, **data}
    events.record(session, tag, actor=actor, data=facts)
