"""Rows move through their state machines by compare-and-set."""

from __future__ import annotations

import pytest

from portal.database import Database
from portal.models import Audience, Release, Rollout, RolloutState, StrategyName, Trigger, move
from portal.models.transitions import ForbiddenTransition


def _rollout(database: Database) -> str:
    with database.transaction() as session:
        release = Release(repository="r/x", image="r/x:1", digest="sha256:" + "0" * 64)
        rollout = Rollout(
            release=release, strategy=StrategyName.IMMEDIATE, trigger=Trigger.OPERATOR, audience=Audience.ALL
        )
        session.add(rollout)
        session.flush()
        return rollout.id


def test_of_two_movers_one_wins(database: Database) -> None:
    key = _rollout(database)
    with database.reading() as late:
        stale = late.get_one(Rollout, key)
    with database.transaction() as session:
        assert move(session, session.get_one(Rollout, key), RolloutState.SCHEDULED, RolloutState.RUNNING)
    with database.transaction() as session:
        stale = session.merge(stale, load=False)
        assert not move(session, stale, RolloutState.SCHEDULED, RolloutState.ABORTED, reason="late")
        assert stale.state is RolloutState.RUNNING
        assert stale.reason is None


def test_a_move_without_an_arrow_is_a_program_error(database: Database) -> None:
    key = _rollout(database)
    with database.transaction() as session, pytest.raises(ForbiddenTransition):
        move(session, session.get_one(Rollout, key), RolloutState.SCHEDULED, RolloutState.COMPLETED)
