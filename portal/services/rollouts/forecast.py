"""Forecast of a rollout that has not started. Used by the page that starts a rollout."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Channel, UpdateState
from portal.rules import forecast as rules
from portal.rules.allowlist import Allowlist
from portal.rules.forecast import Forecast, ForecastBot
from portal.rules.strategies import strategy_for
from portal.services import fleet_settings
from portal.services.rollouts import eligibility, selection
from portal.services.rollouts.eligibility import Candidate
from portal.services.rollouts.selection import RolloutRequest

_DEFAULT_DURATION = timedelta(seconds=60)
_SAMPLE = 20


def forecast_rollout(
    session: Session, allowlist: Allowlist, rollout_request: RolloutRequest, now: datetime
) -> Forecast:
    """Forecast the rollout that `rollouts.start_rollout` would start with this request.

    Raises:
        ServiceError: `rollouts.start_rollout` would refuse the request with the same error.
    """
    parameters = selection.check_request(session, allowlist, rollout_request)
    selected = selection.select_bots(session, rollout_request)
    return rules.forecast(
        strategy_for(rollout_request.strategy, parameters),
        [
            _forecast_bot(candidate)
            for candidate in selected
            if eligibility.exclusion_reason(candidate, rollout_request.release, rollout_request.audience) is None
        ],
        ignore_windows=rollout_request.ignore_windows,
        max_parallel=fleet_settings.get_settings(session).max_parallel,
        per_bot=_average_duration(session),
        now=now,
    )


def _forecast_bot(candidate: Candidate) -> ForecastBot:
    return ForecastBot(
        candidate.bot.node_id,
        candidate.hour_utc,
        candidate.may_be_canary,
        candidate.bot.release_channel is Channel.CANARY,
    )


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
