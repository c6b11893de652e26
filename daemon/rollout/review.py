"""Reviews of open rollouts: what a tick reads about them, without a lock. Used by the orchestrator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from daemon.rollout import automatic_rollouts
from portal.models import Rollout, RolloutState, Trigger
from portal.rules.planner import Decision, Start, plan
from portal.rules.rollout_bots import Stage
from portal.services.rollouts.eligibility_changes import EligibilityChanges, find_changes
from portal.services.rollouts.fleet_facts import FleetFacts
from portal.services.rollouts.update_facts import UpdateFacts, load_facts
from portal.services.rollouts.waiting_bots import StoredWaitingBots

_ROLLOUTS_AT_ONCE = 100
"""Rollouts that one statement reads. SQLite limits the parts of a statement to 500."""


class DueUpdate(NamedTuple):
    """An update that a worker of the node has to start or to take over."""

    update_id: str
    node_id: str


@dataclass(frozen=True)
class Review:
    """An open rollout at the moment of a tick.

    Attributes:
        rollout: the rollout, with its release.
        fleet: the fleet.
        facts: its updates.
        changes: its updates whose bots have changed.
    """

    rollout: Rollout
    fleet: FleetFacts
    facts: UpdateFacts
    changes: EligibilityChanges

    def list_startable(self, session: Session, running: Mapping[str, int]) -> list[DueUpdate] | None:
        """List the updates that workers should start. None if the rollout has to change before.

        Args:
            session: a read-only transaction.
            running: updates per node that run or were handed to workers, in all rollouts.
        """
        if self._must_change(session):
            return None
        decisions, nodes = self.decide(session, running)
        if not all(isinstance(decision, Start) for decision in decisions):
            return None
        return list_due(decisions, nodes)

    def decide(self, session: Session, running: Mapping[str, int]) -> tuple[list[Decision], Mapping[str, str]]:
        """Ask the planner, and return its decisions and the node of each update that it may start."""
        waiting = StoredWaitingBots(session, self.rollout, self.fleet, self.facts)
        snapshot = self.facts.build_snapshot(self.rollout, self.fleet, running, waiting)
        return plan(snapshot, self.fleet.now), waiting.nodes

    def _must_change(self, session: Session) -> bool:
        rollout, fleet = self.rollout, self.fleet
        return bool(
            (rollout.state is RolloutState.SCHEDULED and not fleet.is_paused)
            or rollout.release.quarantined_at is not None
            or self.changes
            or automatic_rollouts.find_newer_release(session, rollout, fleet)
            or (rollout.trigger is Trigger.AUTO and automatic_rollouts.has_joinable(session, rollout, fleet))
        )


def review_open(session: Session, fleet: FleetFacts) -> list[Review]:
    """Review all open rollouts, those started by a member of an organization first.

    The number of statements does not depend on the number of bots and, up to `_ROLLOUTS_AT_ONCE`, of rollouts.
    """
    query = (
        sa.select(Rollout)
        .where(Rollout.state.in_(Rollout.OPEN))
        .options(joinedload(Rollout.release))
        .order_by((Rollout.trigger == Trigger.TENANT).desc(), Rollout.created_at, Rollout.id)
    )
    rollouts = session.scalars(query).all()
    groups = [rollouts[start : start + _ROLLOUTS_AT_ONCE] for start in range(0, len(rollouts), _ROLLOUTS_AT_ONCE)]
    return [review for group in groups for review in _review(session, group, fleet)]


def review_again(session: Session, rollout: Rollout, fleet: FleetFacts) -> Review:
    """Review one rollout in the transaction that changes it."""
    return _review(session, [rollout], fleet)[0]


def list_due(decisions: Sequence[Decision], nodes: Mapping[str, str]) -> list[DueUpdate]:
    """List the updates that the planner starts."""
    starts = [decision for decision in decisions if isinstance(decision, Start)]
    return [DueUpdate(update_id, nodes[update_id]) for start in starts for update_id in start.update_ids]


def _review(session: Session, rollouts: Sequence[Rollout], fleet: FleetFacts) -> list[Review]:
    facts = load_facts(session, rollouts)
    waiting = {rollout_id for rollout_id, found in facts.items() if found.count(Stage.WAITING)}
    changes = find_changes(session, rollouts, waiting, fleet)
    return [Review(rollout, fleet, facts[rollout.id], changes[rollout.id]) for rollout in rollouts]
