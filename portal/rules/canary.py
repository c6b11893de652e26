"""The canary of a rollout: which bots may be canaries, in which order, and how many. Used by eligibility and waves.

The canaries are the first wave and prove the release. `RollingWave` in `portal.rules.strategies` starts no other bot
before one of them is healthy on the release.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

DEFAULT_CANARIES = 1
"""Number of canaries unless the operator sets another one."""


class WaveBot(Protocol):
    """The facts of a bot that decide about its place in a wave."""

    @property
    def may_be_canary(self) -> bool:
        """The result of `may_be_canary` for this bot."""

    @property
    def canary_channel(self) -> bool:
        """The bot follows the canary channel, which asks to go first."""


Bot = TypeVar("Bot", bound=WaveBot)


def may_be_canary(*, healthy: bool, protected: bool) -> bool:
    """Return whether a bot can prove a release.

    Args:
        healthy: the bot is healthy. On an unhealthy bot, a failed health check says nothing about the release.
        protected: snapshots protect all data of the bot, so that a bad release cannot destroy any.
    """
    return healthy and protected


def list_canaries(bots: Iterable[Bot]) -> list[Bot]:
    """List the bots that may be canaries, those of the canary channel first, otherwise in the given order."""
    return sorted((bot for bot in bots if bot.may_be_canary), key=lambda bot: not bot.canary_channel)
