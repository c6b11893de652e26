"""Messages about changes: every event names the rows that decide about access."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

import pytest
from redis import Redis

from portal.change_messages import CHANNEL, parse_message, publish_changes
from portal.database import Database
from portal.models import EventTag
from portal.queue import connect
from portal.services import changes, events
from tests.support.cast import Cast, SignedIn


def test_events_note_what_changes(database: Database) -> None:
    with database.transaction() as session:
        data = {"user_id": "u"}
        events.record(session, EventTag.MEMBER_REMOVED, actor="a", org_id="o", bot_id="b", data=data)
        changes.note_change(session, "x", None)
    assert changes.take_changes(session) == {"u", "a", "o", "b", "x"}
    assert changes.take_changes(session) == set()


def test_changes_are_published_after_the_commit(database: Database, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis, redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(CHANNEL)
        subscription.get_message(timeout=5)
        publishing = Database(str(database.engine.url), partial(publish_changes, redis))
        with publishing.transaction() as session:
            changes.note_change(session, "bot")
            assert subscription.get_message(timeout=0.05) is None
        message = subscription.get_message(timeout=5)
        assert parse_message(message["data"]) == {"bot"}
        with suppress(ZeroDivisionError), publishing.transaction() as session:
            changes.note_change(session, "bot")
            raise ZeroDivisionError
        assert subscription.get_message(timeout=0.05) is None
        publishing.dispose()


@pytest.mark.requests
def test_requests_publish_changes(signed_in: SignedIn, cast: Cast, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis, redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(CHANNEL)
        subscription.get_message(timeout=5)
        assert signed_in("bob").post("/logout").status_code == 303
        message = subscription.get_message(timeout=5)
        assert cast.people["bob"] in parse_message(message["data"])


def test_without_redis_changes_are_only_lost(database: Database) -> None:
    with database.transaction() as session:
        changes.note_change(session, "bot")
    publish_changes(connect("redis://127.0.0.1:1/0"), session)
    assert changes.take_changes(session) == set()


@pytest.mark.parametrize("message", [b"", b"{}", b"[", b"5", b"[" * 100_000, json.dumps([1, None]).encode()])
def test_strange_messages_are_empty(message: bytes) -> None:
    assert parse_message(message) == set()
