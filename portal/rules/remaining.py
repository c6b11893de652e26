"""The rest of an open rollout: an estimate of its waves, and why it waits. Used by the progress of a rollout."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

from portal.rules.planner import BlockReason, RolloutSnapshot, Stage, collect_facts, is_due
from portal.rules.waves import list_eligible

_BLOCK_REASON_TEXTS = {
    BlockReason.WINDOW: "waiting for the update hour of their organization",
    BlockReason.NODE: "on a node that accepts no updates",
    BlockReason.BUSY: "in another update",
    BlockReason.RETRY: "waiting for a retry",
    BlockReason.DOWN: "being started after they had stopped",
}


def estimate_waves_left(snapshot: RolloutSnapshot, now: datetime) -> int:
    """Estimate the number of waves to come, as if every waiting bot were due and no update failed."""
    waiting = sum(1 for target in snapshot.targets if target.stage is Stage.WAITING and target.wave is None)
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


def list_wait_reasons(snapshot: RolloutSnapshot, now: datetime) -> list[str]:
    """List why waiting bots are not updated now; empty while a wave is in progress."""
    waiting = [target for target in snapshot.targets if target.stage is Stage.WAITING]
    if snapshot.paused or any(target.wave is not None for target in waiting):
        return []
    if any(target.stage is Stage.IN_FLIGHT for target in snapshot.targets):
        return []
    counts = Counter(target.block_reason for target in waiting if target.block_reason is not None)
    reasons = [
        f"{_count_bots(counts[reason])} {_BLOCK_REASON_TEXTS[reason]}" for reason in BlockReason if counts[reason]
    ]
    due = [target for target in waiting if is_due(target)]
    if due and any(target.in_doubt for target in snapshot.targets):
        reasons.insert(0, "waiting for an updated bot that is down to recover")
    elif due and not list_eligible(snapshot.strategy.next_batch(collect_facts(snapshot, now)), due):
        reasons.insert(0, "waiting for a bot that can be the canary: healthy, with all data protected by snapshots")
    return reasons


def _count_bots(number: int) -> str:
    return "1 bot" if number == 1 else f"{number} bots"
