"""The waiting bots of a rollout, asked of the database only when the planner needs them. Used by the orchestrator.

The conditions in SQL say the same as `planner_input`, which describes every bot of a rollout for its page. A test
compares both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotState, BotUpdate, Channel, Rollout, TenantUpdateConfig, UpdateState
from portal.rules import windows
from portal.rules.rollout_bots import Stage, Target
from portal.rules.strategies import Batch
from portal.services.rollouts.fleet_facts import FleetFacts
from portal.services.rollouts.update_facts import UpdateFacts


class StoredWaitingBots:
    """The waiting bots of a rollout, see `portal.rules.rollout_bots.WaitingBots`.

    Args:
        session: the transaction.
        rollout: the rollout.
        fleet: the fleet.
        facts: the counts of the rollout.
    """

    def __init__(self, session: Session, rollout: Rollout, fleet: FleetFacts, facts: UpdateFacts) -> None:
        self._session, self._rollout, self._fleet, self._facts = session, rollout, fleet, facts
        self.nodes: dict[str, str] = {}
        """The node of each update that was listed."""

    def count_due(self) -> int:
        """Count the due bots."""
        return self._number_of_due

    def list_due(self, batch: Batch) -> Sequence[Target]:
        """List as many due bots as the wave takes, in the order in which it takes them."""
        query = self._select().where(BotUpdate.wave.is_(None), ~self._is_blocked)
        if batch.canary:
            query = query.where(_may_be_canary()).order_by((Bot.release_channel == Channel.CANARY).desc())
        return self._load(query.order_by(Bot.created_at, Bot.id).limit(batch.size))

    def list_blocked(self) -> Sequence[Target]:
        """List the blocked bots that are in a wave."""
        if not self._may_be_blocked:
            return []
        query = self._select().where(BotUpdate.wave.is_not(None), self._is_blocked)
        return self._load(query.order_by(Bot.created_at, Bot.id))

    def list_startable(self, full_nodes: Collection[str], per_node: int) -> Sequence[Target]:
        """List the first bots of each node that are in a wave and not blocked."""
        if self._fleet.active_nodes <= set(full_nodes):
            return []
        position = sa.func.row_number().over(partition_by=Bot.node_id, order_by=(Bot.created_at, Bot.id))
        in_wave = (
            self._select(position.label("position"))
            .where(BotUpdate.wave.is_not(None), Bot.node_id.not_in(full_nodes), ~self._is_blocked)
            .subquery()
        )
        query = sa.select(in_wave).where(in_wave.c.position <= per_node)
        return self._load(query.order_by(in_wave.c.created_at, in_wave.c.bot_id))

    @cached_property
    def _number_of_due(self) -> int:
        query = sa.select(sa.func.count()).select_from(BotUpdate).where(*self._is_waiting, BotUpdate.wave.is_(None))
        if self._has_window and not self._exists_window():
            return 0
        if self._has_window or self._fleet.inactive_nodes:
            query = _join_bots(query)
        return self._session.scalar(query.where(~self._is_blocked)) or 0

    @property
    def _has_window(self) -> bool:
        return not self._rollout.ignore_windows

    @property
    def _may_be_blocked(self) -> bool:
        return bool(self._has_window or self._fleet.inactive_nodes or self._has_retries or self._busy)

    @property
    def _has_retries(self) -> bool:
        return self._facts.next_retry is not None and self._facts.next_retry > self._fleet.now

    @property
    def _busy(self) -> list[str]:
        """The bots whose update in another rollout is running, and those that are being started."""
        updating = [update.bot_id for update in self._fleet.running if update.rollout_id != self._rollout.id]
        return [*updating, *self._fleet.being_started]

    @property
    def _is_waiting(self) -> tuple[sa.ColumnElement[bool], ...]:
        return BotUpdate.rollout_id == self._rollout.id, BotUpdate.state == UpdateState.PENDING

    @cached_property
    def _is_blocked(self) -> sa.ColumnElement[bool]:
        """The condition for blocked bots, without the reasons that cannot apply now."""
        reasons: list[sa.ColumnElement[bool]] = []
        if self._fleet.inactive_nodes:
            reasons.append(Bot.node_id.in_(self._fleet.inactive_nodes))
        if self._has_window:
            reasons.append(~self._is_in_window)
        if self._has_retries:
            reasons.append(sa.func.coalesce(BotUpdate.not_before > self._fleet.now, sa.false()))
        if self._busy:
            reasons.append(BotUpdate.bot_id.in_(self._busy))
        return sa.or_(sa.false(), *reasons)

    def _exists_window(self) -> bool:
        """Return whether any organization has the current hour as its update hour. Most hours of a day, none has."""
        if self._fleet.settings.tenant_hour_utc in self._open_hours:
            return True
        chosen = sa.select(TenantUpdateConfig.org_id).where(
            TenantUpdateConfig.preferred_hour_utc.in_(self._open_hours)
        )
        return self._session.scalar(chosen.limit(1)) is not None

    @cached_property
    def _open_hours(self) -> list[int]:
        return [hour for hour in range(24) if windows.is_open(hour, self._fleet.now)]

    @property
    def _is_in_window(self) -> sa.ColumnElement[bool]:
        hours = self._open_hours
        chosen = sa.select(TenantUpdateConfig.org_id)
        if self._fleet.settings.tenant_hour_utc in hours:
            return Bot.org_id.not_in(chosen.where(TenantUpdateConfig.preferred_hour_utc.not_in(hours)))
        return Bot.org_id.in_(chosen.where(TenantUpdateConfig.preferred_hour_utc.in_(hours)))

    def _select(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        query = sa.select(
            BotUpdate.id,
            BotUpdate.wave,
            BotUpdate.attempt,
            BotUpdate.bot_id,
            Bot.node_id,
            Bot.created_at,
            (Bot.release_channel == Channel.CANARY).label("canary_channel"),
            _may_be_canary().label("may_be_canary"),
            *columns,
        )
        return _join_bots(query).where(*self._is_waiting)

    def _load(self, query: sa.Select[Any]) -> list[Target]:
        targets = [
            Target(
                update_id=row.id,
                bot_id=row.bot_id,
                node_id=row.node_id,
                stage=Stage.WAITING,
                wave=row.wave,
                attempt=row.attempt,
                may_be_canary=row.may_be_canary,
                canary_channel=row.canary_channel,
            )
            for row in self._session.execute(query)
        ]
        self.nodes |= {target.update_id: target.node_id for target in targets}
        return targets


def _join_bots(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.join(Bot, Bot.id == BotUpdate.bot_id)


def _may_be_canary() -> sa.ColumnElement[bool]:
    """Return the condition of `portal.rules.canary.may_be_canary`."""
    return sa.and_(Bot.state == BotState.RUNNING, sa.cast(Bot.unprotected, sa.Text).in_(("[]", "null")))
