"""Fixtures for tests of alerts: a receiver, and channels that send to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from portal.database import Database
from portal.models import AlertFormat, EventTag
from portal.services import events
from portal.services.alerts import channels
from portal.services.alerts.channel_spec import ChannelSpec
from tests.support.receiver import Receiver, receiving

AddChannel = Callable[..., str]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that accepts everything."""
    with receiving() as started:
        yield started


@pytest.fixture
def add_channel(database: Database, receiver: Receiver) -> AddChannel:
    """Return a function that adds a channel for offline nodes and returns its id."""

    def add(kind: AlertFormat = AlertFormat.JSON, name: str = "Operations", path: str = "/hook") -> str:
        spec = ChannelSpec(name, kind, ["node.offline"], receiver.url + path)
        with database.transaction() as session:
            return channels.add(session, spec, actor=None).id

    return add


def report_offline(database: Database, name: str = "north") -> int:
    """Record the event that a node is offline and return its id."""
    with database.transaction() as session:
        return events.record(session, EventTag.NODE_OFFLINE, data={"name": name, "error": "timeout"}).id
