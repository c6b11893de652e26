"""Changes of the states of bots: recorded by everything that sets a state, loaded as a history, deleted when old."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Bot, BotState, BotStateChange, utcnow
from portal.services import retention
from portal.services.bots import automatic_starts, desired_state, observations, state_changes
from portal.services.bots.desired_state import PendingChange
from portal.services.bots.observations import Observation
from portal.services.rollouts import outcomes
from tests import factories


@pytest.fixture
def bot_id(database: Database) -> str:
    """A healthy bot that was added long ago."""
    with database.transaction() as session:
        org, node = factories.org(session, factories.user(session)), factories.node(session)
        return factories.bot(session, org, node, container_id="1", created_at=utcnow() - timedelta(days=60)).id


def list_changes(session: Session) -> list[tuple[BotState, BotState]]:
    """List the recorded changes, oldest first."""
    rows = session.execute(sa.select(BotStateChange.old, BotStateChange.new).order_by(BotStateChange.id))
    return [(old, new) for old, new in rows]


def observe(session: Session, bot: Bot, state: BotState, now: datetime) -> None:
    """Record an observation, as the probe of the node does."""
    found = Observation(bot.id, "1", state, "HTTP 503", None)
    observations.record_observations(session, bot.node_id, [found], now)


def test_everything_that_changes_a_state_records_that_once(database: Database, bot_id: str) -> None:
    running, unhealthy, stopped, unknown = (BotState.RUNNING, BotState.UNHEALTHY, BotState.STOPPED, BotState.UNKNOWN)
    with database.transaction() as session:
        bot, now = session.get_one(Bot, bot_id), utcnow()
        for _ in range(2):
            observe(session, bot, unhealthy, now)
        desired_state.record_stop(session, bot_id, now)
        automatic_starts.record_failed_start(session, bot, "port is already allocated", now)
        change = PendingChange(bot, bot.desired_state, is_restart=True)
        desired_state.record_applied(session, change, state=unknown, detail=None, address=None, now=now)
        release = factories.release(session)
        update = factories.update(session, factories.rollout(session, release), bot, state="running")
        outcomes.commit_healthy(session, update, "2", None, now)
        assert list_changes(session) == [
            (running, unhealthy),
            (unhealthy, stopped),
            (stopped, unknown),
            (unknown, running),
        ]
        assert bot.state_since == now


def test_history_shows_changes_and_the_downtimes_of_updates(database: Database, bot_id: str) -> None:
    now = utcnow()
    with database.transaction() as session:
        bot = session.get_one(Bot, bot_id)
        observe(session, bot, BotState.UNHEALTHY, now - timedelta(days=3))
        observe(session, bot, BotState.RUNNING, now - timedelta(days=3) + timedelta(hours=1))
        rollout = factories.rollout(session, factories.release(session))
        stopped = now - timedelta(hours=2)
        factories.update(session, rollout, bot, stopped_at=stopped, answering_at=stopped + timedelta(seconds=14))
        history = state_changes.load_history(session, bot, now)
    day, week = history.periods
    assert (len(day.bars), len(week.bars)) == (48, 84)
    assert (day.interruptions, week.interruptions) == (1, 2)
    assert {bar.state for bar in day.bars} == {"running", "updating"}
    assert week.percentage == pytest.approx(100 * (1 - (3600 + 14) / (7 * 86400)))
    assert [(span.state, span.duration) for span in history.interruptions] == [
        ("updating", timedelta(seconds=14)),
        ("unhealthy", timedelta(hours=1)),
    ]


def test_old_changes_are_deleted(database: Database, bot_id: str) -> None:
    now = utcnow()
    with database.transaction() as session:
        bot = session.get_one(Bot, bot_id)
        observe(session, bot, BotState.UNHEALTHY, now - state_changes.KEEP_CHANGES - timedelta(minutes=1))
        observe(session, bot, BotState.RUNNING, now - state_changes.KEEP_CHANGES + timedelta(minutes=1))
        retention.delete_expired(session, now)
        assert list_changes(session) == [(BotState.UNHEALTHY, BotState.RUNNING)]
