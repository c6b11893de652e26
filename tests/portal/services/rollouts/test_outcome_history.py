"""Tests of the outcomes of the last weeks, by the day on which a rollout was started, in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from portal.database import Database
from portal.models import Bot, Release, UpdateState
from portal.services.rollouts import outcome_history
from tests import factories
from tests.support.scene import Scene

NOW = datetime(2026, 11, 30, 0, 30, tzinfo=UTC)


def test_outcomes_are_counted_by_the_day_of_their_rollout(scene: Scene, database: Database) -> None:
    states = (UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.SKIPPED)
    starts = (
        NOW - timedelta(minutes=20),
        NOW - timedelta(minutes=40),  # 23:50 of the day before
        NOW - timedelta(minutes=50),
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 10, 31, 23, 59, tzinfo=UTC),  # too old
    )
    with database.transaction() as session:
        release = session.get_one(Release, scene.new)
        for created_at in starts:
            started = factories.rollout(session, release, state="completed", created_at=created_at)
            for bot_id, state in zip(scene.bots, states, strict=True):
                factories.update(session, started, session.get_one(Bot, bot_id), state=state)
    with database.reading() as session:
        days = outcome_history.list_outcomes(session, NOW)
    assert len(days) == outcome_history.DAYS
    assert (days[0].day, days[-1].day) == (date(2026, 11, 1), date(2026, 11, 30))
    found = {day.day.day: (day.updated, day.failed, day.skipped) for day in days if day.updated}
    assert found == {1: (1, 1, 1), 29: (2, 2, 2), 30: (1, 1, 1)}
    assert sum(day.updated + day.failed + day.skipped for day in days) == 4 * len(states)
