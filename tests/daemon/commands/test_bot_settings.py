"""Tests of `flotilla bots label`, `channel`, `hold` and `unhold`, and of `flotilla bots list --label`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import Bot, Channel, Event, utcnow
from tests import factories
from tests.daemon.conftest import Flotilla

REFUSED = 1
BAD_INPUT = 2


@pytest.fixture
def bot(database: Database) -> str:
    """The bot `desk`, beside another one."""
    with database.transaction() as session:
        org, node = factories.org(session, factories.user(session)), factories.node(session)
        factories.bot(session, org, node, name="other", subdomain="other")
        return factories.bot(session, org, node, name="desk", subdomain="desk").id


def test_labels_are_changed_and_listed(flotilla: Flotilla, bot: str) -> None:
    assert flotilla("bots", "label", "desk", "pilot", "Region=EU").output == "Labels of desk: pilot, region=eu.\n"
    assert flotilla("bots", "label", bot, "--remove", "pilot").output == "Labels of desk: region=eu.\n"
    assert flotilla("bots", "label", bot).output == "Labels of desk: region=eu.\n"
    listed = flotilla("bots", "list", "--label", "region=eu").output
    assert "desk" in listed
    assert "other" not in listed
    refused = flotilla("bots", "label", bot, "new", "--remove", "region=eu", "no label")
    assert refused.exit_code == BAD_INPUT
    assert "Use letters, digits" in refused.stderr
    assert flotilla("bots", "label", bot).output == "Labels of desk: region=eu.\n"


def test_channel_is_changed(flotilla: Flotilla, bot: str, database: Database) -> None:
    assert flotilla("bots", "channel", "desk", "canary").output == "desk is in the channel canary.\n"
    assert flotilla("bots", "channel", "desk", "weekly").exit_code == BAD_INPUT
    with database.reading() as session:
        assert session.get_one(Bot, bot).release_channel is Channel.CANARY


def test_hold_is_set_and_ended(flotilla: Flotilla, bot: str, database: Database) -> None:
    day = f"{utcnow() + timedelta(days=3):%Y-%m-%d}"
    held = flotilla("bots", "hold", "desk", "--until", day, "--reason", "audit")
    assert held.output == f"Updates of desk are on hold until {day}.\n"
    assert flotilla("bots", "hold", "desk", "--until", "2020-01-01", "--reason", "audit").exit_code == BAD_INPUT
    assert flotilla("bots", "unhold", "desk").exit_code == 0
    assert flotilla("bots", "unhold", "desk").exit_code == REFUSED
    with database.reading() as session:
        recorded = session.query(Event).filter_by(bot_id=bot).order_by(Event.id).all()
        assert [event.tag for event in recorded] == ["bot.updates_held", "bot.hold_ended"]
        assert recorded[0].data == {"until": f"{day} 00:00 UTC", "reason": "audit", "via": "command line"}
