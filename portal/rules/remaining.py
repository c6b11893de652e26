"""How far a rollout is and what it waits for: estimates and words for people, from the planner's own view."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

from portal.rules.planner import BlockReason, RolloutSnapshot, Stage, collect_facts, is_due


def estimate_waves_left(snapshot: RolloutSnapshot, now: datetime) -> int:
    """Estimate how many waves are still to be cut, as if every waiting bot were due and all went well."""
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
    """Say why bots that are still to be updated are not being updated now; empty while a wave is under way."""
    waiting = [target for target in snapshot.targets if target.stage is Stage.WAITING]
    if snapshot.paused or any(target.wave is not None for target in waiting):
        return []
    if any(target.stage is Stage.IN_FLIGHT for target in snapshot.targets):
        return []
    block_reasons = Counter(target.block_reason for target in waiting if target.block_reason is not None)
    reasons = [
        f"{_bots(block_reasons[block_reason])} {_WORDS[block_reason]}"
        for block_reason in BlockReason
        if block_reasons[block_reason]
    ]
    due = [target for target in waiting if is_due(target)]
    if due and any(target.in_doubt for target in snapshot.targets):
        reasons.insert(0, "waiting to see whether a bot that was updated and is down comes back")
    elif (
        due
        and snapshot.strategy.next_batch(collect_facts(snapshot, now)).canary
        and not any(target.may_be_canary for target in due)
    ):
        reasons.insert(0, "waiting for a bot that may go first: healthy, and all its data protected by snapshots")
    return reasons


_WORDS = {
    BlockReason.WINDOW: "waiting for the hour of day chosen for updates",
    BlockReason.NODE: "on a node that takes no updates now",
    BlockReason.BUSY: "in the middle of another update",
    BlockReason.RETRY: "waiting before the next attempt",
}


def _bots(number: int) -> str:
    return "1 bot" if number == 1 else f"{number} bots"
