"""The updates of open rollouts as the planner needs them: counts, and the few bots that matter one by one.

Used by the orchestrator and by pages. The cost of these queries follows the number of bots that are in flight, failed
or down. All waiting and updated bots are only counted, from an index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session, load_only

from portal.models import Bot, BotUpdate, DesiredState, Rollout, RolloutState, Step, UpdateState
from portal.rules.health_check_timeout import choose_timeout
from portal.rules.planner import RolloutSnapshot
from portal.rules.rollout_bots import Stage, Tally, Target, WaitingBots
from portal.rules.strategies import strategy_for
from portal.services.rollouts.fleet_facts import FleetFacts
from portal.services.rollouts.outages import DOWN, Outage, find_outage

STAGES = {
    UpdateState.PENDING: Stage.WAITING,
    UpdateState.RUNNING: Stage.IN_FLIGHT,
    UpdateState.UPDATED: Stage.UPDATED,
    UpdateState.ROLLED_BACK: Stage.FAILED,
    UpdateState.FAILED: Stage.FAILED,
    UpdateState.NEEDS_ATTENTION: Stage.FAILED,
    UpdateState.SKIPPED: Stage.SKIPPED,
}
_COUNTED = (UpdateState.PENDING, UpdateState.UPDATED)
_LISTED = (UpdateState.RUNNING, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)
_IDS_PER_QUERY = 5000
_STEPS_BY_SIZE = (Step.PREFLIGHT, Step.BASE)
"""The steps before the stop whose duration depends on the size of the volumes."""


class Suspect(NamedTuple):
    """A bot that may count against the release: its update failed, or it is down since its update."""

    target: Target
    created_at: datetime
    outage: Outage | None


@dataclass
class UpdateFacts:
    """The updates of one rollout."""

    tallies: list[Tally] = field(default_factory=list)
    """Numbers of waiting and updated bots by wave."""
    in_flight: list[Target] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    next_retry: datetime | None = None
    """When the last waiting bot may be retried."""

    def count(self, stage: Stage) -> int:
        """Count the waiting or the updated bots."""
        return sum(tally.number for tally in self.tallies if tally.stage is stage)

    def build_snapshot(
        self, rollout: Rollout, fleet: FleetFacts, running: Mapping[str, int], waiting: WaitingBots
    ) -> RolloutSnapshot:
        """Build the state of the rollout for the planner.

        Args:
            rollout: the rollout.
            fleet: the fleet.
            running: updates per node that run or were handed to workers, in all rollouts.
            waiting: the waiting bots of the rollout.
        """
        strategy = strategy_for(rollout.strategy, rollout.parameters)
        timeout = choose_timeout(fleet.health_check_timeout, strategy.health_check_timeout())
        suspects = sorted(self.suspects, key=lambda suspect: (suspect.created_at, suspect.target.bot_id))
        outages = [suspect.outage for suspect in suspects if suspect.outage is not None]
        return RolloutSnapshot(
            strategy=strategy,
            tallies=self.tallies,
            in_flight=self.in_flight,
            failures=[
                replace(suspect.target, turned_unhealthy=suspect.outage is not None)
                for suspect in suspects
                if suspect.outage is None or suspect.outage.is_long(timeout)
            ],
            in_doubt=any(outage.is_in_doubt(timeout, fleet.now) for outage in outages),
            waiting=waiting,
            paused=fleet.is_paused or rollout.state is not RolloutState.RUNNING,
            resumed_at=rollout.resumed_at,
            pause_skipped_at=rollout.pause_skipped_at,
            max_parallel=fleet.settings.max_parallel,
            running=running,
        )


def load_facts(session: Session, rollouts: Sequence[Rollout]) -> Mapping[str, UpdateFacts]:
    """Load the facts of these rollouts, by the id of the rollout."""
    found = {rollout.id: UpdateFacts() for rollout in rollouts}
    listed = {}
    # One statement sees all updates at the same moment, so that no bot is counted twice or missing.
    for row in session.execute(_count_and_list(list(found))):
        facts = found[row.rollout_id]
        if row.id is not None:
            listed[row.id] = row
            continue
        facts.tallies.append(Tally(STAGES[row.state], row.wave, row.number, row.ended_at))
        if row.state is UpdateState.PENDING:
            facts.next_retry = max(filter(None, (facts.next_retry, row.not_before)), default=None)
    for detail in _load_details(session, list(listed)):
        row = listed[detail.id]
        facts, target = found[row.rollout_id], _describe(row, detail)
        if target.stage is Stage.IN_FLIGHT:
            facts.in_flight.append(target)
        else:
            facts.suspects.append(Suspect(target, detail.created_at, None))
    updated = [rollout for rollout in rollouts if found[rollout.id].count(Stage.UPDATED)]
    for rollout_id, suspect in list_outages(session, updated):
        found[rollout_id].suspects.append(suspect)
    return found


def find_progress(
    timings: Mapping[str, Sequence[str | None]], started_at: datetime | None, lease_until: datetime | None
) -> datetime | None:
    """Return when an update last started or finished a step.

    Measuring and archiving the volumes take as long as the data needs, while the bot runs, and have their own time
    limits. In these steps it counts that a worker lives, which renews the lease of the bot.

    Args:
        timings: begin and end of the steps of the update.
        started_at: when the update began.
        lease_until: until when a worker has the bot; None if none has.
    """
    moments = [datetime.fromisoformat(moment) for times in timings.values() for moment in times if moment]
    if lease_until is not None and any(len(timings.get(step, ())) == 1 for step in _STEPS_BY_SIZE):
        moments.append(lease_until)
    return max(moments, default=started_at)


def _count_and_list(rollout_ids: Sequence[str]) -> sa.CompoundSelect[Any]:
    """Count the waiting and updated bots by wave, and list all others without the skipped ones."""
    counted = (
        sa.select(
            BotUpdate.rollout_id,
            BotUpdate.state,
            BotUpdate.wave,
            sa.cast(sa.null(), sa.String).label("id"),
            sa.func.count().label("number"),
            sa.func.max(BotUpdate.ended_at).label("ended_at"),
            sa.func.max(BotUpdate.not_before).label("not_before"),
        )
        .where(BotUpdate.rollout_id.in_(rollout_ids), BotUpdate.state.in_(_COUNTED))
        .group_by(BotUpdate.rollout_id, BotUpdate.state, BotUpdate.wave)
    )
    listed = sa.select(
        BotUpdate.rollout_id,
        BotUpdate.state,
        BotUpdate.wave,
        BotUpdate.id,
        sa.literal(1),
        BotUpdate.ended_at,
        BotUpdate.not_before,
    ).where(BotUpdate.rollout_id.in_(rollout_ids), BotUpdate.state.in_(_LISTED))
    return sa.union_all(counted, listed)


def _load_details(session: Session, update_ids: Sequence[str]) -> Iterator[sa.Row[Any]]:
    query = sa.select(
        BotUpdate.id,
        BotUpdate.bot_id,
        BotUpdate.attempt,
        BotUpdate.error,
        BotUpdate.transient,
        BotUpdate.timings,
        BotUpdate.started_at,
        Bot.node_id,
        Bot.created_at,
        Bot.lease_until,
    ).join(BotUpdate.bot)
    for start in range(0, len(update_ids), _IDS_PER_QUERY):
        yield from session.execute(query.where(BotUpdate.id.in_(update_ids[start : start + _IDS_PER_QUERY])))


def _describe(row: sa.Row[Any], detail: sa.Row[Any]) -> Target:
    return Target(
        update_id=row.id,
        bot_id=detail.bot_id,
        node_id=detail.node_id,
        stage=STAGES[row.state],
        wave=row.wave,
        attempt=detail.attempt,
        error=detail.error or "",
        transient=detail.transient,
        never_ran=row.state is UpdateState.FAILED,
        needs_attention=row.state is UpdateState.NEEDS_ATTENTION,
        progress_at=find_progress(detail.timings, detail.started_at, detail.lease_until),
        ended_at=row.ended_at,
    )


def list_outages(session: Session, rollouts: Sequence[Rollout]) -> Iterator[tuple[str, Suspect]]:
    """List the updated bots that are down, each with the id of its rollout."""
    if not rollouts:
        return
    releases = {rollout.id: rollout.release for rollout in rollouts}
    query = (
        sa.select(BotUpdate, Bot)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(
            Bot.id.in_(Bot.select_exceptional()),
            Bot.desired_state == DesiredState.RUNNING,
            Bot.state.in_(DOWN),
            BotUpdate.rollout_id.in_(releases),
            BotUpdate.state == UpdateState.UPDATED,
            Bot.state_since > BotUpdate.ended_at,
        )
        .options(
            load_only(BotUpdate.rollout_id, BotUpdate.bot_id, BotUpdate.state, BotUpdate.wave, BotUpdate.ended_at),
            load_only(BotUpdate.attempt),
            load_only(
                *(Bot.node_id, Bot.current_digest, Bot.desired_state, Bot.state, Bot.state_since),
                *(Bot.checked_at, Bot.created_at),
            ),
        )
    )
    for update, bot in session.execute(query):
        outage = find_outage(update, bot, releases[update.rollout_id])
        if outage is not None:
            target = Target(
                update_id=update.id,
                bot_id=bot.id,
                node_id=bot.node_id,
                stage=Stage.UPDATED,
                wave=update.wave,
                attempt=update.attempt,
                ended_at=update.ended_at,
            )
            yield update.rollout_id, Suspect(target, bot.created_at, outage)
