"""The health check right after a bot was started, so that people soon see the result of a start or restart.

Used by `desired_state`. A bot that takes longer is found healthy by the next probe of its node.
"""

from __future__ import annotations

import time

from daemon.engine.health_probe import HealthCheck, probe
from portal.database import Database
from portal.models import Bot, BotState, utcnow
from portal.services.bots import observations
from portal.services.bots.desired_state import JUST_STARTED
from portal.services.bots.observations import Observation

_PATIENCE_SECONDS = 5.0
"""A longer wait would keep a worker from the updates of other bots."""
_PROBE_SECONDS = 2.0
_PAUSE_SECONDS = 0.25


def check_started_bot(database: Database, bot_id: str) -> None:
    """Probe a bot that has just been started until it is healthy, and record that.

    The caller must not hold the lease of the bot: observations of leased bots are not recorded.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with database.reading() as session:
            bot = session.get_one(Bot, bot_id)
        if bot.state_detail != JUST_STARTED or bot.address is None:
            return
        if probe(bot.address, HealthCheck.of(bot), _PROBE_SECONDS).ok:
            healthy = Observation(bot.id, str(bot.container_id), BotState.RUNNING, None, bot.address)
            with database.transaction() as session:
                observations.record_observations(session, bot.node_id, [healthy], utcnow())
            return
        time.sleep(_PAUSE_SECONDS)
