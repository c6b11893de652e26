"""Outages of bots after their update, which may be the fault of the release. Used by the input of the planner."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from portal.models import Bot, BotState, BotUpdate, DesiredState, Release, UpdateState
from portal.services.releases import releases

DOWN = frozenset({BotState.UNHEALTHY, BotState.STOPPED, BotState.MISSING})
"""States in which a bot does not answer."""
_STALE_AFTER = timedelta(minutes=1)
"""The state of a bot that was not checked for this long is unknown: its node has a problem, not the release."""


class Outage(NamedTuple):
    """The time during which an updated bot was seen down."""

    since: datetime
    last_seen: datetime

    def is_long(self, health_check_timeout: timedelta) -> bool:
        """Return whether the bot is down for longer than a health check may take."""
        return self.last_seen - self.since >= health_check_timeout

    def is_in_doubt(self, health_check_timeout: timedelta, now: datetime) -> bool:
        """Return whether the bot is down for a short time and may recover."""
        return not self.is_long(health_check_timeout) and now < self.last_seen + _STALE_AFTER


def find_outage(update: BotUpdate, bot: Bot, release: Release) -> Outage | None:
    """Return since when an updated bot that should run is down; None when the bot is not down."""
    if update.state is not UpdateState.UPDATED or bot.desired_state is not DesiredState.RUNNING:
        return None
    if bot.state not in DOWN or not releases.is_running(bot, release):
        return None
    since, ended, checked = bot.state_since, update.ended_at, bot.checked_at
    if since is None or checked is None or ended is None or since <= ended:
        return None
    return Outage(since, checked)
