"""Tests of labels: their form, their limits, their events."""

from __future__ import annotations

import pytest

from portal.database import Database
from portal.models import Bot, BotPhase, Event, EventTag
from portal.rules.bot_labels import MAX_PER_BOT
from portal.services.bots import labels
from portal.services.errors import ConflictError, InvalidError
from tests.support.scene import Scene


def test_label_is_added_and_removed_once(scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        changed = [
            labels.add_label(session, bot, " Region=EU ", actor=None),
            labels.add_label(session, bot, "region=eu", actor=None),
            labels.add_label(session, bot, "pilot", actor=None),
            labels.remove_label(session, bot, "PILOT", actor=None),
            labels.remove_label(session, bot, "pilot", actor=None),
        ]
    assert changed == [True, False, True, True, False]
    with database.reading() as session:
        assert labels.load_labels(session, scene.bots) == {scene.bots[0]: ["region=eu"]} == labels.load_all(session)
        assert labels.list_labels(session) == ["region=eu"]
        recorded = session.query(Event).filter_by(tag=EventTag.BOT_LABELS_CHANGED).order_by(Event.id).all()
    assert [event.data for event in recorded] == [
        {"old": "none", "new": "region=eu"},
        {"old": "region=eu", "new": "pilot, region=eu"},
        {"old": "pilot, region=eu", "new": "region=eu"},
    ]


@pytest.mark.parametrize("text", ["", " ", "two words", "-a", "a-", "ä", "a" * 41, "a,b", "a\x00"])
def test_text_that_is_no_label_is_refused(text: str, scene: Scene, database: Database) -> None:
    with database.transaction() as session, pytest.raises(InvalidError):
        labels.add_label(session, session.get_one(Bot, scene.bots[0]), text, actor=None)


def test_number_of_labels_is_limited(scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        for number in range(MAX_PER_BOT):
            labels.add_label(session, bot, f"l{number}", actor=None)
        with pytest.raises(ConflictError, match="Remove one first"):
            labels.add_label(session, bot, "more", actor=None)
        bot.phase = BotPhase.REMOVED
        session.flush()
        with pytest.raises(ConflictError, match="was removed"):
            labels.remove_label(session, bot, "l1", actor=None)
