"""Alert channels: what is queued for them, what they accept, concurrent changes, and what the log says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import AlertChannel, AlertDelivery, AlertFormat, Event, EventTag, utcnow
from portal.rules import alert_events
from portal.services import events
from portal.services.alerts import channels
from portal.services.alerts.channel_spec import ChannelSpec
from portal.services.audit import sentences
from portal.services.errors import ConflictError, InvalidError, NotFoundError, StaleError

SECRET_URL = "https://chat.example:8443/hook/very-secret"
SPEC = ChannelSpec("Operations", AlertFormat.SLACK, ["node.offline"], SECRET_URL)


def add(session: Session, **values: Any) -> AlertChannel:
    """Add a channel that differs from `SPEC` as named."""
    return channels.add(session, dataclasses.replace(SPEC, **values), actor=None)


def count_deliveries(session: Session) -> int:
    """Return the number of messages."""
    return session.scalar(sa.select(sa.func.count(AlertDelivery.id))) or 0


def test_every_event_of_an_alert_exists() -> None:
    assert set(EventTag) >= alert_events.TAGS >= alert_events.TROUBLE
    assert {tag for tags in sentences.list_tags_by_subject().values() for tag in tags} >= alert_events.TAGS


def test_event_is_queued_in_its_transaction_for_the_channels_that_want_it(database: Database) -> None:
    with database.transaction() as session:
        wanted = add(session)
        add(session, name="Others", tags=["node.online"])
        paused = add(session, name="Paused")
        channels.pause(session, paused, utcnow(), seen=paused.version, actor=None)
    with database.reading() as session:  # which is rolled back
        events.record(session, EventTag.NODE_OFFLINE, data={"name": "north"})
    with database.transaction() as session:
        assert count_deliveries(session) == 0
        event = events.record(session, EventTag.NODE_OFFLINE, data={"name": "north"})
        events.record(session, EventTag.NODE_CHANGED, data={"name": "north"})
        delivery = session.scalars(sa.select(AlertDelivery)).one()
        assert (delivery.channel_id, delivery.event_id) == (wanted.id, event.id)


def test_secrets_are_encrypted_and_not_in_the_log(database: Database) -> None:
    with database.transaction() as session:
        channel = add(session, format=AlertFormat.JSON)
        secret = channel.secret or ""
    assert secret.startswith("whsec_")
    with database.reading() as session:
        stored = session.execute(sa.text("SELECT url, secret, host FROM alert_channels")).one()
        logged = str([event.data for event in session.scalars(sa.select(Event))])
    assert "very-secret" not in str(stored)
    assert secret not in str(stored)
    assert stored.host == "chat.example:8443"
    assert "very-secret" not in logged


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"tags": []}, "tags"),
        ({"tags": ["user.signed_in"]}, "tags"),
        ({"url": None}, "url"),
        *(
            ({"url": url}, "url")
            for url in (
                "ftp://chat.example/x",
                "https://user:very-secret@chat.example/x",
                "https:///x",
                "https://chat.example:99999/x",
                "https://chat.example/very secret",
                "https://chat.exämple/x",
                "https://chat.example/" + "x" * 2000,
            )
        ),
        ({"format": AlertFormat.NTFY, "url": "https://ntfy.example/"}, "url"),
        ({"format": AlertFormat.NTFY, "secret": "two words"}, "secret"),
    ],
)
def test_invalid_value_is_refused_and_not_repeated(database: Database, values: dict[str, Any], field: str) -> None:
    with database.transaction() as session:
        with pytest.raises(InvalidError) as caught:
            add(session, **values)
        assert session.scalars(sa.select(AlertChannel.id)).all() == []
    assert caught.value.field == field
    assert "very-secret" not in str(caught.value)


def test_name_is_unique(database: Database) -> None:
    with database.transaction() as session:
        add(session)
        other = add(session, name="Other")
        with pytest.raises(ConflictError, match="Another channel"):
            add(session)
        with pytest.raises(ConflictError, match="Another channel"):
            channels.change(session, other, SPEC, seen=other.version, actor=None)


def test_change_keeps_what_was_left_empty_and_refuses_an_old_version(database: Database) -> None:
    with database.transaction() as session:
        channel = add(session)
        changed = dataclasses.replace(SPEC, name="Night shift", url=None)
        channels.change(session, channel, changed, seen=channel.version, actor=None)
        assert (channel.name, channel.url) == ("Night shift", SECRET_URL)
        with pytest.raises(StaleError):
            channels.change(session, channel, SPEC, seen=channel.version - 1, actor=None)
        with pytest.raises(StaleError):
            channels.pause(session, channel, utcnow(), seen=channel.version - 1, actor=None)


def test_new_signing_secret_replaces_the_old_one(database: Database) -> None:
    with database.transaction() as session:
        channel = add(session, format=AlertFormat.JSON)
        old = channel.secret
        assert channels.renew_secret(session, channel, seen=channel.version, actor=None) == channel.secret != old
        chat = add(session, name="Chat")
        with pytest.raises(ConflictError):
            channels.renew_secret(session, chat, seen=chat.version, actor=None)


def test_one_test_message_waits_at_most(database: Database) -> None:
    with database.transaction() as session:
        channel = add(session)
        channels.send_test(session, channel)
        with pytest.raises(ConflictError, match="waits already"):
            channels.send_test(session, channel)
        channels.pause(session, channel, utcnow(), seen=channel.version, actor=None)
        with pytest.raises(ConflictError, match="paused"):
            channels.send_test(session, channel)


def test_only_refused_messages_of_the_channel_are_sent_again(database: Database) -> None:
    with database.transaction() as session:
        channel, other = add(session), add(session, name="Other")
        delivery = channels.send_test(session, other)
        with pytest.raises(NotFoundError):
            channels.resend(session, channel, delivery.message_id)
        with pytest.raises(ConflictError):
            channels.resend(session, other, delivery.message_id)
