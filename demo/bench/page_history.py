"""The history of an installation, with which pages are measured: rollouts, updates and events. Used by `pages`."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from demo.bench import fleet
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    Event,
    EventTag,
    Org,
    Rollout,
    RolloutState,
    Step,
    Trigger,
    UpdateState,
    User,
    utcnow,
)
from portal.models.base import new_id
from portal.rules.strategies import StrategyName, parse_parameters

EVENTS_PER_BOT = 100
"""10,000 bots have a million events."""
_PAST_ROLLOUTS = 5
_EVERY = 50
"""One past update in this many was rolled back."""
_TAGS = (EventTag.BOT_UPDATED, EventTag.BOT_STATE_CHANGED, EventTag.USER_SIGNED_IN, EventTag.USER_SIGNED_OUT)
_EVENTS_PER_TAG = EVENTS_PER_BOT // len(_TAGS)


def add_history(database: Database) -> None:
    """Add completed rollouts of all bots and the event log, and give the organizations to another user."""
    with database.transaction() as session:
        operator = session.scalars(sa.select(User).where(User.is_platform_admin)).one()
        for number in range(_PAST_ROLLOUTS):
            _add_past_rollout(session, operator, number)
        _add_events(session, operator)
        _give_orgs_to_others(session)
    database.refresh_statistics()


def _add_past_rollout(session: Session, operator: User, number: int) -> None:
    """Add a completed rollout of all bots. It is a day older than the one before."""
    ended = utcnow() - timedelta(days=number + 1)
    release = fleet.describe_release(f"0.9.{number}-{new_id()[:4]}")
    release.first_seen_at = ended - timedelta(hours=2)
    strategy = StrategyName.ROLLING_WAVE
    rollout = Rollout(
        release=release,
        strategy=strategy,
        parameters=parse_parameters(strategy, {}),
        state=RolloutState.COMPLETED,
        trigger=Trigger.OPERATOR,
        audience=Audience.ALL,
        ignore_windows=True,
        started_by=operator.id,
        created_at=ended - timedelta(hours=1),
        started_at=ended - timedelta(hours=1),
        ended_at=ended,
    )
    session.add(rollout)
    session.flush()
    timings = {step: [ended.isoformat(), ended.isoformat()] for step in Step}
    rows = [
        {
            "rollout_id": rollout.id,
            "bot_id": bot_id,
            "wave": 1 + position * 5 // 100,
            "state": UpdateState.UPDATED if position % _EVERY else UpdateState.ROLLED_BACK,
            "error": None if position % _EVERY else "Health check failed: HTTP 503 for 120 s",
            "created_at": ended - timedelta(hours=1),
            "started_at": ended,
            "ended_at": ended,
            "cleaned_at": ended,
            "timings": timings,
        }
        for position, bot_id in enumerate(session.scalars(sa.select(Bot.id)))
    ]
    session.execute(sa.insert(BotUpdate), rows)


def _add_events(session: Session, operator: User) -> None:
    """Add events of every bot, and a few rare ones by the operator."""
    # The database multiplies the rows itself, because sending a million takes minutes.
    numbers = sa.select(sa.literal(1).label("number")).cte(recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.number + 1).where(numbers.c.number < _EVENTS_PER_TAG))
    for tag in _TAGS:
        source = sa.select(
            sa.literal(utcnow()), sa.literal(tag), Bot.org_id, Bot.id, sa.literal({}, Event.data.type)
        ).select_from(sa.join(Bot, numbers, sa.true()))
        columns = ["at", "tag", "org_id", "bot_id", "data"]
        session.execute(sa.insert(Event).from_select(columns, source, include_defaults=False))
    first_orgs = sa.select(Org.id).order_by(Org.id).limit(10)
    for number, org_id in enumerate(session.scalars(first_orgs)):
        session.add(Event(tag=EventTag.CONFIG_CHANGED, actor_id=operator.id, org_id=org_id, data={"number": number}))
        session.flush()


def _give_orgs_to_others(session: Session) -> None:
    """Give all organizations to another user, because the pages of an owner list all own organizations."""
    owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
    session.add(owner)
    session.flush()
    session.execute(sa.update(Org).values(owner_id=owner.id))
