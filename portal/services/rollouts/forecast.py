"""Looking ahead: what a rollout would do, with the same choices and refusals as starting it."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import BotUpdate, Channel, UpdateState, utcnow
from portal.rules import forecast as rules
from portal.rules.allowlist import Allowlist
from portal.rules.forecast import Forecast, ForecastBot
from portal.rules.strategies import strategy_for
from portal.services import fleet_settings
from portal.services.rollouts import eligibility as audiences
from portal.services.rollouts import selection
from portal.services.rollouts.selection import RolloutRequest

_USUAL_DURATION = timedelta(seconds=60)
_SAMPLE = 20


def forecast_rollout(
    session: Session, allowlist: Allowlist, rollout_request: RolloutRequest, now: datetime | None = None
) -> Forecast:
    """Tell what `rollouts.start` would do with this wish: bots, waves, who waits for which hour, the end.

    Raises:
        ServiceError: whatever `rollouts.start` would refuse.
    """
    checked = selection.check_request(session, allowlist, rollout_request)
    chosen = selection.select_bots(session, rollout_request)
    entrants = [
        ForecastBot(
            candidate.bot.node_id,
            candidate.hour_utc,
            candidate.may_be_canary,
            candidate.bot.release_channel is Channel.CANARY,
        )
        for candidate in chosen
        if audiences.exclusion_reason(candidate, rollout_request.release, rollout_request.audience) is None
    ]
    return rules.forecast(
        strategy_for(rollout_request.strategy, checked),
        entrants,
        ignore_windows=rollout_request.ignore_windows,
        max_parallel=fleet_settings.get_settings(session).max_parallel,
        per_bot=_usual_duration(session),
        now=now or utcnow(),
    )


def _usual_duration(session: Session) -> timedelta:
    """Average of the last successful updates; a guess where there are none."""
    query = (
        sa.select(BotUpdate.started_at, BotUpdate.ended_at)
        .where(BotUpdate.state == UpdateState.UPDATED)
        .order_by(BotUpdate.ended_at.desc())
        .limit(_SAMPLE)
    )
    took = [ended - started for started, ended in session.execute(query) if started and ended]
    return max(sum(took, timedelta()) / len(took), timedelta(seconds=1)) if took else _USUAL_DURATION
