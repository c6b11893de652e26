"""Observed states and addresses of bots, with an event for each change. Used by the job that probes nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer, load_only

from portal.database import database_now
from portal.models import Bot, BotState, BotUpdate, EventTag
from portal.rules.stop_causes import StopCause
from portal.services import events
from portal.services.bots import automatic_starts, leases, state_changes
from portal.services.syncs import reconciliation

_Known = sa.Row[*tuple[Any, ...]]
"""Id, container, state, detail and address of a bot."""


@dataclass(frozen=True)
class Observation:
    """Result of probing one bot.

    Attributes:
        bot_id: the bot.
        container_id: the container that was probed.
        state: the observed state.
        detail: the reason, for display; None for a healthy bot.
        address: `host:port` of the probe, or None when the bot was not probed.
        stop_cause: why the container has stopped; None if it runs or was known to be stopped.
    """

    bot_id: str
    container_id: str
    state: BotState
    detail: str | None
    address: str | None
    stop_cause: StopCause | None = None


def list_observable(session: Session, node_id: str) -> list[Bot]:
    """Return the bots of a node without a running update and without a lease, with what a probe needs of them."""
    columns = (
        Bot.container_id,
        Bot.port,
        Bot.health_path,
        Bot.health_expectation,
        Bot.state,
        Bot.desired_state,
        Bot.checked_at,
    )
    found = sa.select(Bot).where(_is_observable(session, node_id)).options(load_only(*columns))
    return list(session.scalars(found.order_by(Bot.id)))


def record_observations(session: Session, node_id: str, observed: Sequence[Observation], now: datetime) -> None:
    """Record observations, except of bots whose lease was acquired or whose container changed since the probe.

    Almost all observations only repeat what is known. One statement records these.
    """
    known = _load_known(session, node_id)
    current = [
        each for each in observed if each.bot_id in known and known[each.bot_id].container_id == each.container_id
    ]
    repeated = {each.bot_id for each in current if _is_repeated(each, known[each.bot_id])}
    checked = sa.update(Bot).where(Bot.id.in_(repeated)).values(checked_at=now)
    session.execute(checked.execution_options(synchronize_session=False))
    # Other transactions lock the syncs of several bots in the same order.
    for observation in sorted(current, key=lambda found: found.bot_id):
        if observation.bot_id not in repeated:
            without_secrets = [defer(Bot.spec), defer(Bot.provision_secret)]
            bot = session.get_one(Bot, observation.bot_id, options=without_secrets)
            _record(session, bot, observation, now)


def record_stopped(session: Session, bot: Bot, detail: str, cause: StopCause, now: datetime) -> None:
    """Record that the holder of a bot's lease found the container stopped.

    Args:
        session: a fenced transaction.
        bot: the bot.
        detail: the state of the container, for operators.
        cause: why the container has stopped.
        now: the moment.
    """
    _record(session, bot, Observation(bot.id, str(bot.container_id), BotState.STOPPED, detail, None, cause), now)


def _is_observable(session: Session, node_id: str) -> sa.ColumnElement[bool]:
    updating = sa.select(BotUpdate.id).where(BotUpdate.bot_id == Bot.id, BotUpdate.is_running())
    return sa.and_(
        Bot.node_id == node_id,
        Bot.container_id.is_not(None),
        leases.is_free(database_now(session)),
        ~updating.exists(),
    )


def _load_known(session: Session, node_id: str) -> dict[str, _Known]:
    """Return what is known about the observable bots of a node, by id, and lock their rows."""
    columns = sa.select(Bot.id, Bot.container_id, Bot.state, Bot.state_detail, Bot.address)
    # A process that acquires the lease waits until the observations are recorded.
    found = columns.where(_is_observable(session, node_id)).order_by(Bot.id).with_for_update(of=Bot)
    return {row.id: row for row in session.execute(found)}


def _is_repeated(observation: Observation, known: _Known) -> bool:
    same = (observation.state, observation.detail, observation.address or known.address)
    return same == (known.state, known.state_detail, known.address)


def _record(session: Session, bot: Bot, observation: Observation, now: datetime) -> None:
    old = bot.state
    if state_changes.set_state(session, bot, observation.state, observation.detail, now):
        events.record(
            session,
            EventTag.BOT_STATE_CHANGED,
            org_id=bot.org_id,
            bot_id=bot.id,
            data={"old": old, "new": observation.state, "detail": observation.detail},
        )
        if observation.stop_cause is not None:
            automatic_starts.request_if_engine_failed(session, bot, observation.stop_cause, now)
        if observation.state is BotState.RUNNING:
            reconciliation.request(session, bot.id)
    bot.checked_at = now
    bot.address = observation.address or bot.address
