"""How far a rollout is and what it waits for: estimates and words for people, from the planner's own view."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

from portal.rules.planner import Hold, Stage, View, facts_of, is_due


def waves_left(view: View, now: datetime) -> int:
    """Estimate how many waves are still to be cut, as if every waiting bot were due and all went well."""
    waiting = sum(1 for part in view.parts if part.stage is Stage.WAITING and part.wave is None)
    facts = facts_of(view, now)
    proven = facts.proven or facts.in_flight > 0
    waves = 0
    while waiting > 0:
        batch = view.strategy.next_batch(
            replace(facts, due=waiting, in_flight=0, wave_ended_at=None, proven=proven or waves > 0)
        )
        waiting -= max(1, batch.size)
        waves += 1
    return waves


def waits(view: View, now: datetime) -> list[str]:
    """Say why bots that are still to be updated are not being updated now; empty while a wave is under way."""
    waiting = [part for part in view.parts if part.stage is Stage.WAITING]
    if view.paused or any(part.wave is not None for part in waiting):
        return []
    if any(part.stage is Stage.IN_FLIGHT for part in view.parts):
        return []
    holds = Counter(part.hold for part in waiting if part.hold is not None)
    reasons = [f"{_bots(holds[hold])} {_WORDS[hold]}" for hold in Hold if holds[hold]]
    due = [part for part in waiting if is_due(part)]
    if due and any(part.in_doubt for part in view.parts):
        reasons.insert(0, "waiting to see whether a bot that was updated and is down comes back")
    elif due and view.strategy.next_batch(facts_of(view, now)).canary and not any(part.may_be_canary for part in due):
        reasons.insert(0, "waiting for a bot that may go first: healthy, and all its data protected by snapshots")
    return reasons


_WORDS = {
    Hold.WINDOW: "waiting for the hour of day chosen for updates",
    Hold.NODE: "on a node that takes no updates now",
    Hold.BUSY: "in the middle of another update",
    Hold.RETRY: "waiting before the next attempt",
}


def _bots(number: int) -> str:
    return "1 bot" if number == 1 else f"{number} bots"
