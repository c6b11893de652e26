"""The rest of an open rollout: an estimate of its waves, and what it waits for. Used by the progress of a rollout."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from portal.rules.planner import RolloutSnapshot, collect_facts
from portal.rules.rollout_bots import BlockReason, ListedBots, Stage

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
    # The estimate takes every waiting bot as due, so it does not have to ask which bots are.
    facts = collect_facts(replace(snapshot, waiting=ListedBots(())), now)
    proven = facts.proven or facts.in_flight > 0
    waves = 0
    while waiting > 0:
        batch = snapshot.strategy.next_batch(
            replace(facts, due=waiting, in_flight=0, wave_ended_at=None, proven=proven or waves > 0)
        )
        waiting -= max(1, batch.size)
        waves += 1
    return waves


def find_next_wave(snapshot: RolloutSnapshot, now: datetime) -> datetime | None:
    """Return when the pause before the next wave ends; None if the rollout is not in such a pause."""
    if _is_wave_in_progress(snapshot) or snapshot.in_doubt:
        return None
    facts = collect_facts(snapshot, now)
    if not facts.due or facts.wave_ended_at is None or snapshot.strategy.next_batch(facts).size:
        return None
    return facts.wave_ended_at + snapshot.strategy.pause_duration()


def list_wait_reasons(snapshot: RolloutSnapshot, now: datetime) -> list[str]:
    """List why waiting bots are not updated now; empty while a wave is in progress."""
    if _is_wave_in_progress(snapshot):
        return []
    counts = snapshot.waiting.count_by_reason()
    reasons = [
        f"{_count_bots(counts[reason])} {_BLOCK_REASON_TEXTS[reason]}" for reason in BlockReason if counts.get(reason)
    ]
    if counts.get(None) and snapshot.in_doubt:
        reasons.insert(0, "waiting for an updated bot that is down to recover")
    elif counts.get(None) and _has_no_canary(snapshot, now):
        reasons.insert(0, "waiting for a bot that can be the canary: healthy, with all data protected by snapshots")
    return reasons


def _is_wave_in_progress(snapshot: RolloutSnapshot) -> bool:
    return bool(snapshot.paused or snapshot.count_unstarted() or snapshot.in_flight)


def _has_no_canary(snapshot: RolloutSnapshot, now: datetime) -> bool:
    batch = snapshot.strategy.next_batch(collect_facts(snapshot, now))
    return batch.size > 0 and not snapshot.waiting.list_due(batch)


def _count_bots(number: int) -> str:
    return "1 bot" if number == 1 else f"{number} bots"
