"""Time limit of the health check: the default, and which value applies. Used by strategies, updates and rollouts."""

from __future__ import annotations

from datetime import timedelta

HEALTH_CHECK_TIMEOUT = timedelta(seconds=120)
"""How long a new container may take to become healthy, unless the setting or the strategy says otherwise."""


def choose_timeout(setting: timedelta | None, strategy: timedelta) -> timedelta:
    """Return the time limit that applies to a rollout.

    Args:
        setting: the setting `HEALTH_TIMEOUT_SECONDS`, which applies to all rollouts; None if it is not given.
        strategy: the time limit of the strategy.
    """
    return setting or strategy
