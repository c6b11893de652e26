"""State transitions by compare-and-set."""

from __future__ import annotations

import pytest

from portal.database import Database
from portal.models import Rollout, RolloutState, move
from portal.models.transitions import ForbiddenTransition
from tests import factories


def add_rollout(database: Database) -> str:
    with database.transaction() as session:
        return factories.rollout(session, factories.release(session)).id


def test_of_two_concurrent_transitions_one_wins(database: Database) -> None:
    rollout_id = add_rollout(database)
    with database.reading() as late:
        stale = late.get_one(Rollout, rollout_id)
    with database.transaction() as session:
        assert move(session, session.get_one(Rollout, rollout_id), RolloutState.SCHEDULED, RolloutState.RUNNING)
    with database.transaction() as session:
        stale = session.merge(stale, load=False)
        assert not move(session, stale, RolloutState.SCHEDULED, RolloutState.ABORTED, reason="late")
        assert stale.state is RolloutState.RUNNING
        assert stale.reason is None


def test_a_transition_that_the_table_does_not_allow_raises_an_error(database: Database) -> None:
    rollout_id = add_rollout(database)
    with database.transaction() as session, pytest.raises(ForbiddenTransition):
        move(session, session.get_one(Rollout, rollout_id), RolloutState.SCHEDULED, RolloutState.COMPLETED)
