"""Selection of the bots of a wave. Used by the planner and the forecast. Canaries: see `portal.rules.canary`."""

from __future__ import annotations

from collections.abc import Sequence

from portal.rules.canary import Bot, list_canaries
from portal.rules.strategies import Batch


def list_eligible(batch: Batch, bots: Sequence[Bot]) -> Sequence[Bot]:
    """List the bots that a wave may take, in the order in which it takes them.

    A canary wave takes only canaries (`portal.rules.canary`).
    """
    return list_canaries(bots) if batch.canary else bots


def select_wave(batch: Batch, due: Sequence[Bot]) -> list[Bot]:
    """Select the bots of the next wave.

    Args:
        batch: size and kind of the wave, as the strategy decided.
        due: the bots that could start now, oldest first.
    """
    return list(list_eligible(batch, due)[: batch.size])
