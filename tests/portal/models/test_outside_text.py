"""Columns for text from outside: what databases refuse is removed, and no free text escapes the cleaning."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Base, BotUpdate, Event, EventTag, Release, UserSession, utcnow
from portal.models.encrypted import EncryptedJSON
from portal.models.outside_text import OutsideJSON, OutsideText
from portal.services import events
from portal.services.rollouts import outcomes
from tests import factories

HOSTILE = "last line\0 \ud800\u202e\x1b[31m" + "x" * 10_000_000
"""NUL, a lone surrogate, a directional override, a colour, and 10 MB."""


def test_hostile_text_does_not_stop_the_verdict(database: Database) -> None:
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        bot = factories.bot(session, org, factories.node(session))
        update = factories.update(session, factories.rollout(session, factories.release(session)), bot)
        outcomes.mark_failed(session, update, HOSTILE, HOSTILE)
    with database.reading() as session:
        stored = session.get_one(BotUpdate, update.id)
    assert (stored.error or "").startswith("last line xxx")
    assert (len(stored.error or ""), len(stored.log_tail or "")) == (4000 - 8, 10_000 - 8)


def test_json_from_outside_is_cleaned_inside(database: Database) -> None:
    value: dict[str, Any] = {
        "version": "1\0",
        "sections": [{"title": "New\ud800", "items": [HOSTILE, 5, None, True]}],
    }
    with database.transaction() as session:
        release = factories.release(session, changelog=value)
        events.record(session, EventTag.IMAGE_LOOK_UP_FAILED, data={"error": HOSTILE, "image\0": "\u202ex"})
    with database.reading() as session:
        changelog = session.get_one(Release, release.id).changelog
        event = session.scalars(sa.select(Event)).one()
        # Reading one value as text is what fails in PostgreSQL when the document contains an escaped NUL.
        found = session.scalars(sa.select(Event.id).where(Event.data["image"].as_string() == "x")).all()
    assert changelog is not None
    section = changelog["sections"][0]
    assert (changelog["version"], section["title"], section["items"][1:]) == ("1", "New", [5, None, True])
    assert len(section["items"][0]) < 10_001
    assert (event.data["image"], event.data["error"][:9]) == ("x", "last line")
    assert found == [event.id]


def test_user_agent_is_one_line_that_fits(database: Database) -> None:
    with database.transaction() as session:
        user = factories.user(session)
        values = {"id_hash": "a", "user_id": user.id, "expires_at": utcnow(), "user_agent": "Evil\0\nAgent" * 100}
        session.add(UserSession(**values))
    with database.reading() as session:
        stored = session.get_one(UserSession, "a").user_agent
    assert stored.startswith("Evil AgentEvil Agent")
    assert len(stored) <= 200


@pytest.mark.parametrize("column", [column for table in Base.metadata.tables.values() for column in table.columns])
def test_free_text_is_always_cleaned(column: sa.Column[Any]) -> None:
    """No column for long text or JSON stores what it gets as it is."""
    if isinstance(column.type, EncryptedJSON | OutsideJSON | OutsideText) or column.computed is not None:
        return  # what the database computes comes from columns that were cleaned
    assert not isinstance(column.type, sa.JSON | sa.Text), f"{column} needs a type of portal.models.outside_text"
