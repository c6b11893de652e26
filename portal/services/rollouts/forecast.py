"""Forecast of a rollout that has not started: its waves, and who is left out. Used by the form of a rollout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, Org, UpdateState
from portal.rules import forecast as rules
from portal.rules.allowlist import Allowlist
from portal.rules.forecast import FIRST, Forecast, ForecastBot
from portal.rules.strategies import strategy_for
from portal.services import fleet_settings
from portal.services.rollouts import selection
from portal.services.rollouts.addressed_bots import AddressedBot, LeftOut
from portal.services.rollouts.selection import RolloutRequest

WAVES = 20
"""Number of waves that a preview shows."""
_DEFAULT_DURATION = timedelta(seconds=60)
_SAMPLE = 20


@dataclass(frozen=True, slots=True)
class LeftOutBots:
    """The bots that a rollout leaves out for one reason."""

    reason: LeftOut
    bots: int
    first: tuple[str, ...]
    """Ids of the first ones."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rollout would do.

    Attributes:
        forecast: bots, waves, and the likely end.
        per_bot: how long the update of a bot is likely to take, from the latest updates.
        left_out: the bots that are not updated, by reason.
        names: names of the bots that the waves and `left_out` list, with their organizations, by id.
    """

    forecast: Forecast
    per_bot: timedelta
    left_out: Sequence[LeftOutBots]
    names: dict[str, str]


def preview_rollout(
    session: Session, allowlist: Allowlist, rollout_request: RolloutRequest, now: datetime
) -> Preview:
    """Forecast the rollout that `rollouts.start_rollout` would start with this request, and name its bots.

    Raises:
        ServiceError: `rollouts.start_rollout` would refuse the request with the same error.
    """
    parameters = selection.check_request(session, allowlist, rollout_request)
    selected = selection.split_bots(session, rollout_request)
    per_bot = _average_duration(session)
    forecast = rules.forecast(
        strategy_for(rollout_request.strategy, parameters),
        [_forecast_bot(bot) for bot in selected.taken if bot.left_out is None],
        ignore_windows=rollout_request.ignore_windows,
        max_parallel=fleet_settings.get_settings(session).max_parallel,
        per_bot=per_bot,
        now=now,
    )
    left_out = _group_by_reason(selected.left_out)
    shown = [bot.bot_id for wave in forecast.waves[:WAVES] for bot in wave.first]
    shown += [bot_id for group in left_out for bot_id in group.first]
    return Preview(forecast, per_bot, left_out, _load_names(session, shown))


def _forecast_bot(bot: AddressedBot) -> ForecastBot:
    return ForecastBot(bot.node_id, bot.hour_utc, bot.may_be_canary, bot.canary_channel, bot.bot_id)


def _group_by_reason(bots: Iterable[AddressedBot]) -> list[LeftOutBots]:
    groups: dict[LeftOut, list[str]] = {}
    for bot in bots:
        if bot.left_out is not None:
            groups.setdefault(bot.left_out, []).append(bot.bot_id)
    return [
        LeftOutBots(reason, len(groups[reason]), tuple(groups[reason][:FIRST]))
        for reason in LeftOut
        if reason in groups
    ]


def _load_names(session: Session, bot_ids: Sequence[str]) -> dict[str, str]:
    query = sa.select(Bot.id, Bot.name, Org.name).join(Bot.org).where(Bot.id.in_(bot_ids))
    return {bot_id: f"{name} of {org}" for bot_id, name, org in session.execute(query)}


def _average_duration(session: Session) -> timedelta:
    """Return the average duration of the latest successful updates, at least one second."""
    query = (
        sa.select(BotUpdate.started_at, BotUpdate.ended_at)
        .where(BotUpdate.state == UpdateState.UPDATED)
        .order_by(BotUpdate.ended_at.desc())
        .limit(_SAMPLE)
    )
    took = [ended - started for started, ended in session.execute(query) if started and ended]
    return max(sum(took, timedelta()) / len(took), timedelta(seconds=1)) if took else _DEFAULT_DURATION
