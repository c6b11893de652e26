"""The waiting bots of a rollout, asked of the database only when they are needed. Used by the orchestrator and pages.

A test compares the conditions in SQL with a description of every bot of a rollout in Python.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, Channel, Rollout, TenantUpdateConfig, UpdateState
from portal.rules import windows
from portal.rules.rollout_bots import BlockReason, Stage, Target
from portal.rules.strategies import Batch
from portal.services.rollouts import eligibility
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
            query = query.where(eligibility.may_be_canary()).order_by((Bot.release_channel == Channel.CANARY).desc())
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

    def count_by_reason(self) -> Mapping[BlockReason | None, int]:
        """Count the waiting bots by the reason why they cannot start now."""
        counts: Counter[BlockReason | None] = Counter()
        for (reason, _hour), number in self._by_reason_and_hour.items():
            counts[reason] += number
        return counts

    def find_next_window(self) -> datetime | None:
        """Return when the next bot that waits for its window may start."""
        hours = [hour for reason, hour in self._by_reason_and_hour if reason is BlockReason.WINDOW]
        return min((windows.next_window(hour, self._fleet.now).opens for hour in hours), default=None)

    @cached_property
    def _by_reason_and_hour(self) -> dict[tuple[BlockReason | None, int], int]:
        if not self._may_be_blocked:
            return {(None, 0): self._facts.count(Stage.WAITING)}
        default = self._fleet.settings.tenant_hour_utc
        hour = sa.func.coalesce(TenantUpdateConfig.preferred_hour_utc, default).label("hour")
        reason = sa.case(
            *((condition, name) for name, condition in self._block_conditions.items()), else_=None
        ).label("reason")
        query = _join_bots(sa.select(reason, hour, sa.func.count()).select_from(BotUpdate))
        query = query.outerjoin(TenantUpdateConfig, TenantUpdateConfig.org_id == Bot.org_id).where(*self._is_waiting)
        found = self._session.execute(query.group_by("reason", "hour"))
        return {(name and BlockReason(name), hour): number for name, hour, number in found}

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
        return bool(self._block_conditions)

    @property
    def _has_retries(self) -> bool:
        return self._facts.next_retry is not None and self._facts.next_retry > self._fleet.now

    @property
    def _updating_elsewhere(self) -> list[str]:
        return [update.bot_id for update in self._fleet.running if update.rollout_id != self._rollout.id]

    @property
    def _is_waiting(self) -> tuple[sa.ColumnElement[bool], ...]:
        return BotUpdate.rollout_id == self._rollout.id, BotUpdate.state == UpdateState.PENDING

    @cached_property
    def _is_blocked(self) -> sa.ColumnElement[bool]:
        """The condition for blocked bots."""
        return sa.or_(sa.false(), *self._block_conditions.values())

    @cached_property
    def _block_conditions(self) -> dict[BlockReason, sa.ColumnElement[bool]]:
        """The condition of each reason that can apply now. For a bot with several reasons, the first counts."""
        conditions: dict[BlockReason, sa.ColumnElement[bool]] = {}
        if self._fleet.inactive_nodes:
            conditions[BlockReason.NODE] = Bot.node_id.in_(self._fleet.inactive_nodes)
        if self._has_window:
            conditions[BlockReason.WINDOW] = ~self._is_in_window
        if self._fleet.being_started:
            conditions[BlockReason.DOWN] = BotUpdate.bot_id.in_(self._fleet.being_started)
        if self._has_retries:
            conditions[BlockReason.RETRY] = sa.func.coalesce(BotUpdate.not_before > self._fleet.now, sa.false())
        if updating := self._updating_elsewhere:
            conditions[BlockReason.BUSY] = BotUpdate.bot_id.in_(updating)
        return conditions

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
            eligibility.may_be_canary().label("may_be_canary"),
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
