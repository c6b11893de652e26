"""The bots of a rollout, as far as the planner asks about them: counts, single bots, and bots that wait.

A rollout may have many thousand bots, of which few matter at any moment. `RolloutSnapshot` in `portal.rules.planner`
therefore contains counts of the waiting and updated bots, and asks `WaitingBots` only for the bots that can start.
`ListedBots` answers from a list of all bots, and `portal.services.rollouts.waiting_bots` from the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from portal.rules.strategies import Batch
from portal.rules.waves import list_eligible


class Stage(StrEnum):
    """Stage of a bot within the rollout. `FAILED` covers rolled back, unchanged, and in need of attention."""

    WAITING = "waiting"
    IN_FLIGHT = "in flight"
    UPDATED = "updated"
    FAILED = "failed"
    SKIPPED = "skipped"


COUNTED_STAGES = frozenset({Stage.WAITING, Stage.UPDATED})
"""Stages whose bots a snapshot only counts."""


class BlockReason(StrEnum):
    """Why a waiting bot of the rollout cannot start now."""

    WINDOW = "outside its window"
    NODE = "its node accepts no updates"
    BUSY = "another update of the bot is running"
    RETRY = "waiting before a retry"
    DOWN = "the bot has stopped and is being started"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One bot of the rollout."""

    update_id: str
    bot_id: str
    node_id: str
    stage: Stage
    wave: int | None = None
    block_reason: BlockReason | None = None
    may_be_canary: bool = False
    """The bot is healthy and snapshots protect all its data."""
    canary_channel: bool = False
    """The bot follows the canary channel, which asks to go first."""
    attempt: int = 0
    error: str = ""
    transient: bool = False
    never_ran: bool = False
    """The update failed before the release's code ran, so the failure does not quarantine the release."""
    needs_attention: bool = False
    """An operator has to repair the bot before it can be tried again."""
    turned_unhealthy: bool = False
    """The bot was updated and has been down since for longer than the health check may take."""
    in_doubt: bool = False
    """The bot was updated and has been down for a short time, as when its node restarts. No wave starts until the
    bot is healthy again or counts as unhealthy."""
    progress_at: datetime | None = None
    """When the update last started or finished a step."""
    ended_at: datetime | None = None

    @property
    def counts_against_release(self) -> bool:
        """Whether the release may have caused the failure of this bot."""
        return self.turned_unhealthy or (self.stage is Stage.FAILED and not self.transient)


@dataclass(frozen=True, slots=True)
class Tally:
    """Number of waiting or updated bots of one wave.

    Attributes:
        stage: `WAITING` or `UPDATED`.
        wave: number of the wave; None for bots in no wave.
        number: number of bots.
        ended_at: when the last of these updates ended.
    """

    stage: Stage
    wave: int | None
    number: int
    ended_at: datetime | None = None


class WaitingBots(Protocol):
    """Answers of the planner's questions about the waiting bots of a rollout. All lists have the oldest bot first."""

    def count_due(self) -> int:
        """Count the bots that the next wave may take: in no wave and not blocked."""

    def list_due(self, batch: Batch) -> Sequence[Target]:
        """List due bots from which to select a wave. Bots that `select_wave` would not select may be missing."""

    def list_blocked(self) -> Sequence[Target]:
        """List the blocked bots that are in a wave."""

    def count_by_reason(self) -> Mapping[BlockReason | None, int]:
        """Count the waiting bots by the reason why they cannot start now; None for those that can."""

    def list_startable(self, full_nodes: Collection[str], per_node: int) -> Sequence[Target]:
        """List the bots in a wave that are not blocked.

        Args:
            full_nodes: nodes that can start no update; their bots may be missing.
            per_node: number of bots per node after which further ones may be missing.
        """


class ListedBots:
    """The bots of a rollout, sorted from a list of all of them.

    Args:
        targets: all bots of the rollout, oldest first.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self._waiting = [target for target in targets if target.stage is Stage.WAITING]

    def count_by_wave(self) -> list[Tally]:
        """Count the waiting and the updated bots of each wave."""
        counted = [target for target in self.targets if target.stage in COUNTED_STAGES]
        numbers = Counter((target.stage, target.wave) for target in counted)
        return [
            Tally(stage, wave, number, _last_end(counted, stage, wave)) for (stage, wave), number in numbers.items()
        ]

    def list_in_flight(self) -> list[Target]:
        """List the bots that are being updated."""
        return [target for target in self.targets if target.stage is Stage.IN_FLIGHT]

    def list_failures(self) -> list[Target]:
        """List the failed bots, and the updated bots that turned unhealthy."""
        return [target for target in self.targets if target.stage is Stage.FAILED or target.turned_unhealthy]

    def has_doubtful(self) -> bool:
        """Return whether an updated bot has been down for a short time."""
        return any(target.in_doubt for target in self.targets)

    def count_due(self) -> int:
        """Count the due bots, see `WaitingBots`."""
        return len(self._list_due())

    def list_due(self, batch: Batch) -> Sequence[Target]:
        """List the due bots that a wave may take, see `WaitingBots`."""
        return list_eligible(batch, self._list_due())

    def list_blocked(self) -> Sequence[Target]:
        """List the blocked bots that are in a wave, see `WaitingBots`."""
        return [target for target in self._waiting if target.wave is not None and target.block_reason is not None]

    def count_by_reason(self) -> Mapping[BlockReason | None, int]:
        """Count the waiting bots by reason, see `WaitingBots`."""
        return Counter(target.block_reason for target in self._waiting)

    def list_startable(self, full_nodes: Collection[str], per_node: int) -> Sequence[Target]:
        """List the bots in a wave that are not blocked, see `WaitingBots`."""
        del full_nodes, per_node
        return [target for target in self._waiting if target.wave is not None and target.block_reason is None]

    def _list_due(self) -> list[Target]:
        return [target for target in self._waiting if target.wave is None and target.block_reason is None]


def _last_end(targets: Sequence[Target], stage: Stage, wave: int | None) -> datetime | None:
    ends = [
        target.ended_at
        for target in targets
        if target.stage is stage and target.wave == wave and target.ended_at is not None
    ]
    return max(ends, default=None)
