"""Alert channels: add, change, pause, resume, test, delete, and their messages. Used by pages and commands."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import AlertChannel, AlertDelivery, AlertFormat, AlertState, Event, EventTag, move
from portal.rules import alert_events
from portal.services import events
from portal.services.audit import log
from portal.services.audit.log import EventRow
from portal.services.errors import ConflictError, InvalidError, NotFoundError, StaleError
from portal.services.events import Actor

DELIVERIES_PER_PAGE = 50
MAX_CHANNELS = 50
MAX_URL_LENGTH = 2000

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of the specification Standard Webhooks


@dataclass(frozen=True)
class ChannelSpec:
    """What an operator enters about a channel.

    Attributes:
        name: its name on pages and in the command line.
        format: what the receiver understands.
        tags: tags of the events that are sent.
        url: the URL that gets the messages; None keeps the stored one.
        secret: the access token of ntfy; None keeps the stored one. The signing secret of JSON is generated.
    """

    name: str
    format: AlertFormat
    tags: Sequence[str]
    url: str | None = None
    secret: str | None = None


@dataclass(frozen=True)
class ChannelRow:
    """A channel in the list.

    Attributes:
        channel: the channel.
        waiting: number of messages that wait.
        failed: number of messages that the receiver refused.
    """

    channel: AlertChannel
    waiting: int
    failed: int


@dataclass(frozen=True)
class DeliveryRow:
    """A message in the delivery log.

    Attributes:
        delivery: the message.
        event: its event; None for a test message.
    """

    delivery: AlertDelivery
    event: EventRow | None


@dataclass(frozen=True)
class DeliveryPage:
    """A page of messages, the newest first.

    Attributes:
        lines: the messages.
        older: the id of the message before which the next page starts; None on the last page.
    """

    lines: list[DeliveryRow]
    older: int | None


def list_channels(session: Session) -> list[ChannelRow]:
    """List all channels by name."""
    channels = session.scalars(sa.select(AlertChannel).order_by(AlertChannel.name)).all()
    # Delivered messages, which are almost all, are not counted.
    query = (
        sa.select(AlertDelivery.channel_id, AlertDelivery.state, sa.func.count())
        .where(AlertDelivery.state.in_([AlertState.PENDING, AlertState.FAILED]))
        .group_by(AlertDelivery.channel_id, AlertDelivery.state)
    )
    counts = {(channel_id, state): count for channel_id, state, count in session.execute(query)}
    return [
        ChannelRow(
            channel, counts.get((channel.id, AlertState.PENDING), 0), counts.get((channel.id, AlertState.FAILED), 0)
        )
        for channel in channels
    ]


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


def list_deliveries(session: Session, channel: AlertChannel, before: int | None = None) -> DeliveryPage:
    """List the messages to a channel, the newest first.

    Args:
        session: the transaction.
        channel: the channel.
        before: the id of the message before which the page starts; None for the newest messages.
    """
    # Pages start at an id, because counting all messages to a channel would take long.
    query = sa.select(AlertDelivery).where(AlertDelivery.channel_id == channel.id)
    if before is not None:
        query = query.where(AlertDelivery.id < before)
    found = session.scalars(query.order_by(AlertDelivery.id.desc()).limit(DELIVERIES_PER_PAGE + 1)).all()
    shown = found[:DELIVERIES_PER_PAGE]
    rows = log.describe_by_id(session, [row.event_id for row in shown if row.event_id is not None])
    older = shown[-1].id if len(found) > DELIVERIES_PER_PAGE else None
    return DeliveryPage([DeliveryRow(delivery, rows.get(delivery.event_id or 0)) for delivery in shown], older)


def add(session: Session, spec: ChannelSpec, *, actor: Actor) -> AlertChannel:
    """Add a channel. A channel with JSON gets a generated signing secret, which is shown once.

    Raises:
        InvalidError: a value is invalid; the error names its field.
        ConflictError: another channel has this name, or there are too many channels.
    """
    values = _check(spec)
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
    values = _check(spec)
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


def send_test(session: Session, channel: AlertChannel, *, actor: Actor) -> AlertDelivery:
    """Queue a test message, which is sent within seconds.

    Raises:
        ConflictError: the channel is paused, or a test message waits already.
    """
    del actor  # a test changes nothing that the log would have to explain
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


def _check(spec: ChannelSpec) -> dict[str, Any]:
    """Return the values to store.

    Raises:
        InvalidError: a value is invalid; the error names its field.
    """
    name = spec.name.strip()
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise InvalidError("Enter a name of at most 100 characters.", "name")
    if not spec.tags:
        raise InvalidError("Choose at least one event.", "tags")
    if unknown := alert_events.list_unknown(spec.tags):
        raise InvalidError(f"There are no alerts about {', '.join(unknown)}.", "tags")
    values: dict[str, Any] = {"name": name, "format": spec.format, "tags": sorted(set(spec.tags))}
    if spec.url is not None:
        values |= {"url": spec.url, "host": _check_url(spec.url, spec.format)}
    if spec.secret is not None and spec.format is AlertFormat.NTFY:
        if not spec.secret.isascii() or not spec.secret.isprintable() or len(spec.secret) > 500 or " " in spec.secret:
            raise InvalidError("An access token has at most 500 ASCII characters and no spaces.", "secret")
        values["secret"] = spec.secret or None
    return values


def _check_url(url: str, kind: AlertFormat) -> str:
    """Return the host and port of a URL. Messages of errors never repeat the URL, which may contain a secret."""
    problem = "Enter a URL that begins with https:// or http://, without a user name."
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidError(problem, "url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidError(problem, "url") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or port == 0:
        raise InvalidError(problem, "url")
    if kind is AlertFormat.NTFY and not parts.path.strip("/"):
        raise InvalidError("Enter the URL of a topic, such as https://ntfy.example/flotilla.", "url")
    return parts.netloc


def _record(session: Session, tag: EventTag, channel: AlertChannel, *, actor: Actor, **data: Any) -> Event:
    facts = {"channel": channel.id, "name": channel.name, **data}
    return events.record(session, tag, actor=actor, data=facts)
