"""The bot template: checks, versions, and what the event log shows of a change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import BotTemplate, Event, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_template
from portal.services.errors import InvalidFieldsError, StaleError
from tests.factories import IMAGE

ALLOWED = Allowlist.parse(["registry.example"])


def change(database: Database, *, seen: int | None = None, **changes: Any) -> BotTemplate:
    """Change some settings of the template as an operator."""
    with database.transaction() as session:
        row = bot_template.get_template(session)
        values = replace(bot_template.read_values(row), **changes)
        version = row.version if seen is None else seen
        return bot_template.change_template(session, ALLOWED, values, seen=version, now=utcnow(), actor=None)


def load_events(database: Database) -> list[Event]:
    """Return all events."""
    with database.reading() as session:
        return list(session.scalars(sa.select(Event).order_by(Event.id)))


def test_template_starts_without_an_image(database: Database) -> None:
    with database.reading() as session:
        values = bot_template.read_values(bot_template.get_template(session))
    assert (values.image, values.volumes, values.create_for_new_orgs) == (None, ["/data", "/paperclip"], False)


def test_change_is_stored_and_recorded_once_with_a_normalized_image(database: Database) -> None:
    for _ in range(2):
        change(database, image=IMAGE.replace(":managed", ""), memory_mb=512)
    with database.reading() as session:
        row = bot_template.get_template(session)
        assert (row.image, row.memory_mb, row.version) == (IMAGE.replace(":managed", ":latest"), 512, 2)
    (event,) = load_events(database)
    assert event.tag == "config.changed"
    assert event.data["old"] == {"image": None, "memory_mb": None}


def test_stale_version_changes_nothing(database: Database) -> None:
    change(database, memory_mb=512)
    with pytest.raises(StaleError):
        change(database, seen=1, memory_mb=256)
    with database.reading() as session:
        assert bot_template.get_template(session).memory_mb == 512


def test_all_problems_are_reported_at_once(database: Database) -> None:
    with pytest.raises(InvalidFieldsError) as refusal:
        change(database, image="evil.example/bot:1", port=0, volumes=["/"], create_for_new_orgs=True)
    assert refusal.value.problems.keys() == {"image", "port", "volumes"}
    assert load_events(database) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": f"{IMAGE}@sha256:{'a' * 64}"}, "image"),
        ({"create_for_new_orgs": True}, "create_for_new_orgs"),
        ({"environment": {"PROVISION_SECRET": "x"}}, "environment"),
        ({"environment": {"PROVISION_SECRET_PREVIOUS": "x"}}, "environment"),
        ({"environment": {"A": "1"}, "hosted_environment": {"A": "1"}}, "hosted_environment"),
        ({"environment": {"FLOTILLA_BOT_ID": "x"}}, "environment"),
        ({"secret_variable": "FLOTILLA_BOT_ID"}, "secret_variable"),
        ({"api_key": "with\nbreak"}, "api_key"),
        ({"agents": [1]}, "agents"),
        ({"budget_cents": 2**31}, "budget_cents"),
    ],
)
def test_invalid_setting_is_refused_by_name(database: Database, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldsError) as refusal:
        change(database, **changes)
    assert list(refusal.value.problems) == [field]


def test_events_and_columns_contain_no_secret(database: Database) -> None:
    change(database, environment={"TOKEN": "s3cret-1", "KEEP": "s3cret-2"}, api_key="s3cret-3")
    change(database, environment={"TOKEN": "s3cret-4", "KEEP": "s3cret-2"}, api_key="s3cret-5")
    first, second = load_events(database)
    assert "s3cret" not in repr((first.data, second.data))
    assert first.data["new"] == {"environment": "KEEP, TOKEN", "api_key": "set"}
    assert second.data["note"] == "new values of TOKEN, the API key"
    with database.reading() as session:
        stored = session.execute(sa.text("SELECT environment, api_key FROM bot_templates")).one()
        assert "s3cret" not in repr(tuple(stored))
        assert "s3cret" not in repr(bot_template.read_values(bot_template.get_template(session)))
