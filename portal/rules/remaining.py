"""The rest of an open rollout: an estimate of its waves, and why it waits. Used by the progress of a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from portal.rules.planner import RolloutSnapshot, collect_facts
from portal.rules.rollout_bots import BlockReason, Stage, Target

_BLOCK_REASON_TEXTS = {
    BlockReason.WINDOW: "waiting for the update hour of their organization",
    BlockReason.NODE: "on a node that accepts no updates",
    BlockReason.BUSY: "in another update",
    BlockReason.RETRY: "waiting for a retry",
    BlockReason.DOWN: "being started after they had stopped",
}


def estimate_waves_left(snapshot: RolloutSnapshot, now: datetime) -> int:
    """Estimate the number of waves to come, as if every waiting bot were due and no update failed."""
    waiting = snapshot.count(Stage.WAITING) - snapshot.count_unstarted()
    facts = collect_facts(snapshot, now)
    proven = facts.proven or facts.in_flight > 0
    waves = 0
    while waiting > 0:
        batch = snapshot.strategy.next_batch(
            replace(facts, due=waiting, in_flight=0, wave_ended_at=None, proven=proven or waves > 0)
        )
        waiting -= max(1, batch.size)
        waves += 1
    return waves


def list_wait_reasons(snapshot: RolloutSnapshot, targets: Sequence[Target], now: datetime) -> list[str]:
    """List why waiting bots are not updated now; empty while a wave is in progress.

    Args:
        snapshot: the rollout.
        targets: all its bots.
        now: the moment.
    """
    if snapshot.paused or snapshot.count_unstarted() or snapshot.in_flight:
        return []
    counts = Counter(target.block_reason for target in targets if target.stage is Stage.WAITING)
    reasons = [
        f"{_count_bots(counts[reason])} {_BLOCK_REASON_TEXTS[reason]}" for reason in BlockReason if counts[reason]
    ]
    if counts[None] and snapshot.in_doubt:
        reasons.insert(0, "waiting for an updated bot that is down to recover")
    elif counts[None] and not snapshot.waiting.list_due(snapshot.strategy.next_batch(collect_facts(snapshot, now))):
        reasons.insert(0, "waiting for a bot that can be the canary: healthy, with all data protected by snapshots")
    return reasons


def _count_bots(number: int) -> str:
    return "1 bot" if number == 1 else f"{number} bots"
