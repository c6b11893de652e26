"""Delivery of alerts: order, retries, refusals, pauses, killed workers, two workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from daemon.alerts import posting, sender
from daemon.alerts.formats import AlertRequest
from portal.database import Database
from portal.models import (
    AlertChannel,
    AlertDelivery,
    AlertFormat,
    AlertState,
    Event,
    EventTag,
    MailState,
    OutgoingMail,
    utcnow,
)
from portal.models.encrypted import use_keys
from portal.services.alerts import channels, delivery
from portal.services.alerts.channel_spec import ChannelSpec
from portal.services.alerts.delivery import CLAIM_DURATION, GIVE_UP_AFTER, MAX_REFUSALS
from portal.services.mail import delivery as mail_delivery
from portal.settings import Settings
from tests import factories
from tests.conftest import SECRET_KEY
from tests.daemon.alerts.conftest import AddChannel, report_offline
from tests.support.receiver import Receiver

LATER = timedelta(hours=1)
"""Longer than any pause between attempts."""

Send = Callable[..., None]


@pytest.fixture
def send(database: Database, settings: Settings) -> Send:
    """Return a function that runs the job for a channel."""

    def run(channel_id: str, now: datetime | None = None) -> None:
        sender.send_alerts(database, settings, channel_id, now or utcnow())

    return run


def load_deliveries(database: Database) -> list[AlertDelivery]:
    """Return all messages in their order."""
    with database.reading() as session:
        return list(session.scalars(sa.select(AlertDelivery).order_by(AlertDelivery.id)))


def load_channel(database: Database, channel_id: str) -> AlertChannel:
    """Return a channel."""
    with database.reading() as session:
        return session.get_one(AlertChannel, channel_id)


def test_messages_arrive_in_order_and_once(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    channel_id = add_channel()
    for name in ("north", "south"):
        report_offline(database, name)
    for _ in range(2):
        send(channel_id)

    contents = [json.loads(request.body)["data"] for request in receiver.requests]
    assert [content["sentence"] for content in contents] == [
        "Node north is offline: timeout",
        "Node south is offline: timeout",
    ]
    assert contents[0]["link"].endswith("/admin/nodes")
    assert {(row.state, row.attempts) for row in load_deliveries(database)} == {(AlertState.DELIVERED, 1)}
    with database.reading() as session:
        assert delivery.list_due(session, utcnow()) == []


def test_unavailable_receiver_gets_the_message_later_with_the_same_id(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    channel_id = add_channel()
    report_offline(database)
    report_offline(database, "south")
    receiver.status = 503
    send(channel_id)
    send(channel_id)
    assert len(receiver.requests) == 1, "the channel waits before the next attempt"

    receiver.status = 200
    send(channel_id, utcnow() + LATER)

    first, second, third = (request.headers["webhook-id"] for request in receiver.requests)
    assert first == second != third
    assert load_channel(database, channel_id).failures == 0


def test_rate_limit_is_obeyed(database: Database, add_channel: AddChannel, receiver: Receiver, send: Send) -> None:
    channel_id = add_channel()
    report_offline(database)
    receiver.status, receiver.headers = 429, {"Retry-After": "600"}
    send(channel_id)
    assert load_channel(database, channel_id).next_attempt_at > utcnow() + timedelta(seconds=590)


def test_refused_message_does_not_hold_up_the_next_one(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    channel_id = add_channel()
    report_offline(database)
    report_offline(database)
    receiver.status = 400
    send(channel_id)

    refused = load_deliveries(database)
    assert [row.state for row in refused] == [AlertState.FAILED] * 2
    receiver.status = 200
    with database.transaction() as session:
        channels.resend(session, channels.get(session, channel_id), refused[0].message_id)
    send(channel_id)
    assert [row.state for row in load_deliveries(database)] == [AlertState.DELIVERED, AlertState.FAILED]


def assert_paused(database: Database, channel_id: str, words: str) -> None:
    """Check that the channel is paused, and that the log and a mail say so."""
    channel = load_channel(database, channel_id)
    assert channel.paused_at is not None
    assert words in (channel.pause_reason or "")
    with database.reading() as session:
        assert session.scalars(sa.select(Event).where(Event.tag == EventTag.ALERT_CHANNEL_PAUSED)).one()
        assert session.scalars(sa.select(OutgoingMail.template)).all() == ["alerts_paused"]
        assert delivery.list_due(session, utcnow() + LATER) == []


def test_many_refusals_pause_the_channel(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    with database.transaction() as session:
        factories.user(session, "root", is_platform_admin=True)
    channel_id = add_channel()
    for _ in range(MAX_REFUSALS + 1):
        report_offline(database)
    receiver.status = 404
    send(channel_id)

    assert len(receiver.requests) == MAX_REFUSALS
    assert_paused(database, channel_id, "404")
    report_offline(database)
    assert len(load_deliveries(database)) == MAX_REFUSALS + 1, "a paused channel gets no more messages"


def test_days_without_success_pause_the_channel_which_can_be_resumed(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    with database.transaction() as session:
        factories.user(session, "root", is_platform_admin=True)
    channel_id = add_channel()
    report_offline(database)
    receiver.status = 500
    send(channel_id)
    with database.transaction() as session:
        session.get_one(AlertChannel, channel_id).failing_since = utcnow() - GIVE_UP_AFTER
    send(channel_id, utcnow() + LATER)
    assert_paused(database, channel_id, "500")

    receiver.status = 200
    with database.transaction() as session:
        channel = channels.get(session, channel_id)
        channels.resume(session, channel, seen=channel.version, actor=None)
    send(channel_id)
    assert [row.state for row in load_deliveries(database)] == [AlertState.DELIVERED]


def test_worker_that_dies_after_the_request_sends_it_again_with_the_same_id(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel_id = add_channel()
    report_offline(database)
    post = posting.post

    def post_and_die(request: AlertRequest, now: datetime) -> None:
        post(request, now)
        raise SystemExit

    monkeypatch.setattr(sender, "post", post_and_die)
    with pytest.raises(SystemExit):
        send(channel_id)
    monkeypatch.setattr(sender, "post", post)
    send(channel_id)
    assert len(receiver.requests) == 1, "the channel is still claimed"

    send(channel_id, utcnow() + CLAIM_DURATION)
    first, second = (request.headers["webhook-id"] for request in receiver.requests)
    assert first == second
    assert [row.attempts for row in load_deliveries(database)] == [2]


def test_second_worker_sends_nothing_at_the_same_time(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel_id = add_channel()
    report_offline(database)
    post = posting.post

    def post_while_another_worker_tries(request: AlertRequest, now: datetime) -> None:
        monkeypatch.setattr(sender, "post", post)
        send(channel_id)
        post(request, now)

    monkeypatch.setattr(sender, "post", post_while_another_worker_tries)
    send(channel_id)
    assert len(receiver.requests) == 1


def test_channel_that_is_deleted_at_the_same_time_loses_its_messages_quietly(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    channel_id = add_channel()
    event_id = report_offline(database)
    with database.transaction() as session:
        channels.delete(session, channels.get(session, channel_id), actor=None)
        session.add(AlertDelivery(channel_id=channel_id, event_id=event_id))
    send(channel_id)

    assert load_deliveries(database) == []
    assert receiver.requests == []


def test_url_that_cannot_be_decrypted_delays_the_message(
    database: Database, add_channel: AddChannel, receiver: Receiver, send: Send
) -> None:
    channel_id = add_channel()
    report_offline(database)
    use_keys("another key")
    try:
        with pytest.raises(Exception, match="SECRET_KEY"):
            send(channel_id)
    finally:
        use_keys(SECRET_KEY)
    assert load_deliveries(database)[0].last_error == (
        "Internal error (UnreadableSecretError). See the worker's log for details."
    )
    send(channel_id, utcnow() + LATER)
    assert len(receiver.requests) == 1


def test_alert_about_a_failed_mail_comes_without_the_address(
    database: Database, receiver: Receiver, send: Send
) -> None:
    spec = ChannelSpec("Operations", AlertFormat.SLACK, ["mail.failed"], f"{receiver.url}/hook")
    with database.transaction() as session:
        channel_id = channels.add(session, spec, actor=None).id
        mail = factories.add(
            session,
            OutgoingMail(dedupe_key="x", to="private@example.com", template="signup", state=MailState.SENDING),
        )
        mail_delivery.mark_failed(session, mail, "refused")
    send(channel_id)
    assert b"An email could not be delivered" in receiver.requests[0].body
    assert b"private" not in receiver.requests[0].body
