"""Selection of the bots of a wave, canary first. Used by the planner and the forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from portal.rules.strategies import Batch


class WaveBot(Protocol):
    """The facts of a bot that decide about its place in a wave."""

    @property
    def may_be_canary(self) -> bool:
        """The bot is healthy and snapshots protect all its data."""

    @property
    def canary_channel(self) -> bool:
        """The bot follows the canary channel, which asks to go first."""


Bot = TypeVar("Bot", bound=WaveBot)


def list_eligible(batch: Batch, bots: Sequence[Bot]) -> list[Bot]:
    """List the bots that a wave may take, in the order in which it takes them.

    A canary wave takes only bots that may be a canary, those of the canary channel first.
    """
    if not batch.canary:
        return list(bots)
    return sorted((bot for bot in bots if bot.may_be_canary), key=lambda bot: not bot.canary_channel)


def select_wave(batch: Batch, due: Sequence[Bot]) -> list[Bot]:
    """Select the bots of the next wave.

    Args:
        batch: size and kind of the wave, as the strategy decided.
        due: the bots that could start now, oldest first.
    """
    return list_eligible(batch, due)[: batch.size]
