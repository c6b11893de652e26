"""Random states of a rollout and of its bots. Used by tests that compare two ways to read a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Node,
    NodeState,
    OrgState,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    TenantMode,
    TenantUpdateConfig,
    Trigger,
    UpdateState,
)
from portal.rules.strategies import StrategyName, parse_parameters
from portal.services import fleet_settings

_FAILED = (UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.NEEDS_ATTENTION)


class RandomRollout:
    """Random changes of a rollout, its updates and its bots, in one transaction.

    Args:
        session: the transaction.
        seed: the same seed makes the same changes.
        now: the moment.
    """

    def __init__(self, session: Session, seed: int, now: datetime) -> None:
        self._session, self._now = session, now
        self._chance = Random(seed)  # noqa: S311 - repeatable, not secret

    def change_rollout(self, rollout: Rollout) -> None:
        """Choose a strategy, the state and the audience."""
        name = self._chance.choice(list(StrategyName))
        parameters = {
            "canary": self._chance.choice((1, 2)),
            "percentage": self._chance.choice((10, 50, 100)),
            "failure_threshold": self._chance.choice((1, 3, 9)),
            "pause_seconds": self._chance.choice((0, 60)),
        }
        rollout.strategy, rollout.parameters = name, parse_parameters(name, parameters)
        rollout.state = self._mostly(RolloutState.RUNNING, RolloutState.PAUSED)
        rollout.ignore_windows = self._chance.random() < 0.5
        rollout.resumed_at = self._mostly(None, self._now)
        self._session.flush()

    def change_audience(self, rollout: Rollout) -> None:
        """Choose who started the rollout, and for which bots."""
        rollout.trigger, rollout.audience = self._chance.choice(
            (
                (Trigger.AUTO, Audience.AUTOMATIC),
                (Trigger.OPERATOR, Audience.AUTOMATIC),
                (Trigger.OPERATOR, Audience.ALL),
                (Trigger.TENANT, Audience.NAMED),
            )
        )
        self._session.flush()

    def change_fleet(self, bots: Sequence[Bot], nodes: Sequence[Node]) -> None:
        """Change settings of the fleet, states of nodes, and preferences of organizations."""
        settings = fleet_settings.get_settings(self._session)
        settings.max_parallel = self._chance.choice((1, 2, 3))
        settings.tenant_mode = self._chance.choice(list(TenantMode))
        settings.tenant_hour_utc = self._choose_hour()
        for node in nodes:
            node.state = self._mostly(NodeState.ACTIVE, NodeState.DRAINING)
        configs = {config.org_id: config for config in self._session.scalars(sa.select(TenantUpdateConfig))}
        for bot in bots:
            preferences = configs[bot.org_id]
            preferences.preferred_hour_utc = self._choose_hour()
            preferences.mode = self._chance.choice(list(TenantMode))
            if self._chance.random() < 0.3:
                self._session.delete(preferences)
        self._session.flush()

    def change_health(self, bots: Sequence[Bot], nodes: Sequence[Node], digests: Sequence[str]) -> None:
        """Change nodes, digests and observed states of bots."""
        for bot in bots:
            bot.node_id = self._chance.choice(nodes).id
            bot.state = self._mostly(BotState.RUNNING, *BotState)
            bot.desired_state = self._mostly(DesiredState.RUNNING, DesiredState.STOPPED)
            bot.restart_requested_at = (
                self._chance.choice((None, self._now)) if bot.state is BotState.STOPPED else None
            )
            bot.state_since, bot.checked_at = self._choose_moment(), self._choose_moment()
            bot.current_digest = self._chance.choice(digests)
            bot.release_channel = self._mostly(Channel.STABLE, Channel.CANARY)
            bot.unprotected = self._mostly([], ["/host"])
        self._session.flush()

    def change_eligibility(self, bots: Sequence[Bot], images: Sequence[str]) -> None:
        """Change what excludes bots from a rollout."""
        release_ids = self._session.scalars(sa.select(Release.id).order_by(Release.first_seen_at)).all()
        for bot in bots:
            bot.phase = self._mostly(BotPhase.ACTIVE, *BotPhase)
            bot.release_channel = self._mostly(Channel.STABLE, Channel.PINNED, Channel.CANARY)
            bot.needs_attention = self._mostly(None, "restore it")
            bot.skipped_release_id = self._mostly(None, *release_ids)
            bot.image = self._mostly(images[0], *images)
            bot.org.state = self._mostly(OrgState.ACTIVE, *OrgState)
        self._session.flush()

    def add_updates(self, rollout: Rollout, elsewhere: Rollout, bots: Sequence[Bot]) -> None:
        """Add an update of each bot in a random state; a few bots have a running update in another rollout."""
        progress = self._chance.choice((0.0, 0.3, 0.6, 1.0))
        failures = self._chance.choice((0.0, 0.0, 0.1, 0.3))
        in_flight = self._chance.choice((0.0, 0.1))
        unstarted = self._chance.choice((0.0, 0.5))
        started_at = self._now - timedelta(seconds=self._chance.choice((30, 800)))
        for bot in bots:
            state = self._choose_state(progress, failures, in_flight)
            self._session.add(self._describe(rollout, bot, state, unstarted, started_at))
            if state is not UpdateState.RUNNING and self._chance.random() < 0.05:
                self._session.add(
                    BotUpdate(rollout_id=elsewhere.id, bot_id=bot.id, state=UpdateState.RUNNING, wave=1)
                )
        self._session.flush()
        self._session.expire_all()

    def _choose_state(self, progress: float, failures: float, in_flight: float) -> UpdateState:
        if self._chance.random() >= progress:
            return UpdateState.PENDING
        if self._chance.random() < failures:
            return self._chance.choice(_FAILED)
        if self._chance.random() < in_flight:
            return UpdateState.RUNNING
        return self._chance.choice((UpdateState.UPDATED, UpdateState.UPDATED, UpdateState.SKIPPED))

    def _describe(
        self, rollout: Rollout, bot: Bot, state: UpdateState, unstarted: float, started_at: datetime
    ) -> BotUpdate:
        in_wave = state is not UpdateState.PENDING or self._chance.random() < unstarted
        values: dict[str, Any] = {"wave": self._chance.choice((1, 2)) if in_wave else None}
        if state is UpdateState.PENDING:
            values["not_before"] = self._mostly(None, self._now + timedelta(minutes=1), self._now)
        elif state is UpdateState.RUNNING:
            values |= {"started_at": started_at, "timings": {"claim": [started_at.isoformat()]}}
        else:
            values["ended_at"] = self._choose_moment()
        if state is UpdateState.SKIPPED:
            values |= {"wave": None, "skip_reason": self._chance.choice((SkipReason.STOPPED, *SkipReason))}
        if state in _FAILED:
            values |= {"error": f"error {self._chance.random()}", "transient": self._chance.random() < 0.5}
            values["ended_at"] -= timedelta(hours=self._chance.choice((0, 13)))
            values["cleaned_at"] = self._mostly(values["ended_at"], None)
        return BotUpdate(
            rollout_id=rollout.id, bot_id=bot.id, state=state, attempt=self._chance.choice((1, 2)), **values
        )

    def _mostly(self, usual: Any, *others: Any) -> Any:
        return usual if self._chance.random() < 0.9 else self._chance.choice(others)

    def _choose_hour(self) -> int:
        return self._chance.choice((self._now.hour, self._now.hour, (self._now.hour + 1) % 24))

    def _choose_moment(self) -> datetime:
        return self._now - timedelta(seconds=self._chance.choice((5, 30, 90, 200, 400, 800)))
