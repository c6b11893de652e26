"""Forecast: what a rollout would do, told before anybody starts it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.rules import windows
from portal.rules.strategies import Facts, RolloutStrategy

NO_CANARY = (
    "No bot may go first: it has to be healthy, with all its data protected by snapshots. "
    "Choose another strategy, or put such a bot right first."
)


@dataclass(frozen=True, slots=True)
class ForecastBot:
    """A bot that would be updated."""

    node_id: str
    hour_utc: int
    may_be_canary: bool
    canary_channel: bool = False


@dataclass(frozen=True, slots=True)
class ForecastWave:
    """A wave as it would begin if all goes well."""

    number: int
    starts_at: datetime
    bots: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would happen if nothing fails and nothing changes meanwhile."""

    bots: int
    waves: tuple[ForecastWave, ...]
    waiting: dict[int, int]
    """Bots that cannot start before their hour of day (UTC) has come, by that hour."""
    ends_at: datetime | None
    """The likely end; None where it cannot end."""
    obstacle: str | None = None
    """Why it would not get to its end."""


def forecast(
    strategy: RolloutStrategy,
    entrants: Sequence[ForecastBot],
    *,
    ignore_windows: bool,
    max_parallel: int,
    per_bot: timedelta,
    now: datetime,
) -> Forecast:
    """Play a rollout through, with the strategy that would really decide.

    Args:
        strategy: the strategy with its parameters.
        entrants: the bots, in the order in which they would be taken.
        ignore_windows: bots do not wait for their hour.
        max_parallel: updates side by side on one node.
        per_bot: how long one update takes.
        now: the moment it would start.
    """
    left, waves, clock, ends_at = list(entrants), list[ForecastWave](), now, None
    while left:
        due = [one for one in left if ignore_windows or windows.is_open(one.hour_utc, clock)]
        batch = strategy.next_batch(_facts(len(entrants), len(left), len(due), len(waves), clock))
        able = [one for one in left if one.may_be_canary] if batch.canary else left
        if not able:
            return Forecast(len(entrants), tuple(waves), _waiting(entrants, now, ignore_windows), None, NO_CANARY)
        if batch.canary:
            due = sorted((one for one in due if one.may_be_canary), key=lambda one: not one.canary_channel)
        if not due:
            clock = min(windows.next_window(one.hour_utc, clock).opens for one in able)
            continue
        chosen = due[: batch.size]
        if not ignore_windows:
            chosen = _before_the_hour_ends(chosen, max_parallel, per_bot, clock)
        waves.append(ForecastWave(len(waves) + 1, clock, len(chosen)))
        left = _without(left, chosen)
        ends_at = clock + _rounds(chosen, max_parallel) * per_bot
        clock = ends_at + strategy.pause_duration()
    return Forecast(len(entrants), tuple(waves), _waiting(entrants, now, ignore_windows), ends_at)


def _facts(total: int, left: int, due: int, wave: int, now: datetime) -> Facts:
    return Facts(
        total=total,
        wave=wave,
        due=due,
        in_flight=0,
        updated=total - left,
        failed=0,
        proven=wave > 0,
        wave_ended_at=None,
        now=now,
    )


def _before_the_hour_ends(
    chosen: Sequence[ForecastBot], max_parallel: int, per_bot: timedelta, now: datetime
) -> list[ForecastBot]:
    """Keep those whose turn comes before the hour is over; the others wait for their next one."""
    rest = windows.next_window(chosen[0].hour_utc, now).closes - now
    room = max(1, math.ceil(rest / per_bot)) * max_parallel
    taken: Counter[str] = Counter()
    kept = []
    for one in chosen:
        taken[one.node_id] += 1
        if taken[one.node_id] <= room:
            kept.append(one)
    return kept


def _without(left: Sequence[ForecastBot], chosen: Sequence[ForecastBot]) -> list[ForecastBot]:
    gone = Counter(chosen)
    rest = []
    for one in left:
        if gone[one]:
            gone[one] -= 1
        else:
            rest.append(one)
    return rest


def _rounds(chosen: Sequence[ForecastBot], max_parallel: int) -> int:
    per_node = Counter(one.node_id for one in chosen)
    return max(math.ceil(number / max_parallel) for number in per_node.values())


def _waiting(entrants: Sequence[ForecastBot], now: datetime, ignore_windows: bool) -> dict[int, int]:
    if ignore_windows:
        return {}
    hours = Counter(one.hour_utc for one in entrants if not windows.is_open(one.hour_utc, now))
    return dict(sorted(hours.items()))
