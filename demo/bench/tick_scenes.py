"""States of a large fleet in which a tick of the orchestrator is measured. Used by `demo.bench.ticks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from demo.bench import fleet
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    Release,
    Rollout,
    RolloutState,
    Step,
    TenantMode,
    TenantUpdateConfig,
    Trigger,
    UpdateState,
    User,
    utcnow,
)
from portal.models.base import new_id
from portal.rules.strategies import StrategyName, parse_parameters

ROLLOUTS = 10
"""Number of rollouts of the scene with several rollouts; each contains all bots."""

_PERCENTAGE = 25


class Scenes:
    """A fleet whose state each method changes.

    Args:
        database: an empty, migrated database.
        bots: number of bots of the fleet.
    """

    def __init__(self, database: Database, bots: int) -> None:
        self._database = database
        with database.transaction() as session:
            self._operator, self._release = fleet.create_fleet(session, bots)

    def all_bots_current(self) -> None:
        """Let all organizations choose automatic updates, and all bots run the newest release."""
        with self._database.transaction() as session:
            fleet.set_preferences(session, TenantMode.AUTO, utcnow().hour)
            session.execute(sa.update(Bot).values(current_digest=self._release.digest))

    def all_bots_outdated(self) -> None:
        """Let all bots run an older release, and no organization have preferences, which means manual updates."""
        with self._database.transaction() as session:
            session.execute(sa.delete(TenantUpdateConfig))
            session.execute(sa.update(Bot).values(current_digest=fleet.describe_digest("1.0.0")))

    def all_bots_join(self) -> None:
        """Let all organizations choose automatic updates at an hour that is far away."""
        with self._database.transaction() as session:
            fleet.set_preferences(session, TenantMode.AUTO, (utcnow() + timedelta(hours=12)).hour)

    def count_updates(self) -> int:
        """Count the updates of all rollouts."""
        with self._database.reading() as session:
            return session.scalar(sa.select(sa.func.count()).select_from(BotUpdate)) or 0

    def rollouts_in_the_middle(self, number: int) -> None:
        """Replace all rollouts by some that contain all bots: one in four is updated, and the next fourth starts."""
        self.all_bots_outdated()
        with self._database.transaction() as session:
            session.execute(sa.delete(BotUpdate))
            session.execute(sa.delete(Rollout))
            bot_ids = session.scalars(sa.select(Bot.id).order_by(Bot.created_at)).all()
            for index in range(number):
                # The first rollout has the release at which the tag points, and the others have earlier ones.
                release = self._add_release(session, index)
                rollout = _add_rollout(session, release, self._operator)
                # Each bot can be in one running update only.
                first = index * len(bot_ids) // number
                turned = [*bot_ids[first:], *bot_ids[:first]]
                session.execute(sa.insert(BotUpdate), list(_describe_updates(rollout, turned)))
        self._database.refresh_statistics()

    def _add_release(self, session: Session, index: int) -> Release:
        if index == 0:
            return self._release
        version = f"0.{index}.{new_id()[:4]}"
        release = fleet.describe_release(version)
        release.first_seen_at = utcnow() - timedelta(days=30)
        session.add(release)
        session.flush()
        return release


def _add_rollout(session: Session, release: Release, operator: User) -> Rollout:
    strategy = StrategyName.ROLLING_WAVE
    rollout = Rollout(
        release=release,
        strategy=strategy,
        parameters=parse_parameters(strategy, {"percentage": _PERCENTAGE, "pause_seconds": 0}),
        state=RolloutState.RUNNING,
        trigger=Trigger.OPERATOR,
        audience=Audience.ALL,
        ignore_windows=True,
        started_by=operator.id,
        started_at=utcnow(),
    )
    session.add(rollout)
    session.flush()
    return rollout


def _describe_updates(rollout: Rollout, bot_ids: list[str]) -> Iterator[dict[str, object]]:
    """Describe an update per bot: an updated canary and wave, a wave in progress, and bots that wait."""
    now, size = utcnow(), len(bot_ids) * _PERCENTAGE // 100
    for position, bot_id in enumerate(bot_ids):
        updated = position < size
        in_flight = size <= position < size + 3
        yield {
            "rollout_id": rollout.id,
            "bot_id": bot_id,
            "wave": min(2, position + 1) if updated else 3 if position < 2 * size else None,
            "state": UpdateState.UPDATED if updated else UpdateState.RUNNING if in_flight else UpdateState.PENDING,
            "started_at": now if updated or in_flight else None,
            "ended_at": now if updated else None,
            "cleaned_at": now if updated else None,
            "timings": _describe_timings(now) if updated else {},
        }


def _describe_timings(started: datetime) -> dict[str, Iterable[str]]:
    return {step: [started.isoformat(), started.isoformat()] for step in Step}
