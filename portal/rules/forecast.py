"""Forecast of a rollout: its waves, its waiting bots and its likely end. Used by the forecast service."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from portal.rules import windows
from portal.rules.strategies import Batch, Facts, RolloutStrategy
from portal.rules.waves import list_eligible, select_wave

NO_CANARY = (
    "No bot can be the canary. A canary must be healthy, and snapshots must protect all its data. "
    "Choose another strategy, or repair such a bot first."
)
FIRST = 10
"""Number of bots that a forecast names of each wave."""
NO_WAVE = "The strategy starts no bot at this point, so the rest of the rollout cannot be forecast."


@dataclass(frozen=True, slots=True)
class ForecastBot:
    """A bot that the rollout would update."""

    node_id: str
    hour_utc: int
    may_be_canary: bool
    canary_channel: bool = False
    bot_id: str = ""


@dataclass(frozen=True, slots=True)
class ForecastWave:
    """A wave and the moments at which it would start and end."""

    number: int
    starts_at: datetime
    ends_at: datetime
    bots: int
    first: tuple[ForecastBot, ...]
    """The first bots of the wave, at most `FIRST`."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a rollout would do if no bot fails and nothing else changes."""

    bots: int
    waves: tuple[ForecastWave, ...]
    waiting: dict[int, int]
    """Number of bots that have to wait for their window, by its hour of the day (UTC)."""
    ends_at: datetime | None
    """The likely end; None if there is no bot to update or an obstacle."""
    obstacle: str | None = None
    """Why the rollout cannot end, or why its end is unknown."""


def forecast(
    strategy: RolloutStrategy,
    bots: Sequence[ForecastBot],
    *,
    ignore_windows: bool,
    max_parallel: int,
    per_bot: timedelta,
    now: datetime,
) -> Forecast:
    """Simulate a rollout, with the strategy and the wave selection that the planner uses.

    Args:
        strategy: the strategy with its parameters.
        bots: the bots of the rollout, oldest first.
        ignore_windows: whether bots start outside their window.
        max_parallel: updates that run in parallel on one node.
        per_bot: duration of one update.
        now: start of the rollout.
    """
    waiting = _count_waiting(bots, now, ignore_windows)
    queues, left = _queue_by_hour(bots, ignore_windows), len(bots)
    waves, clock, ends_at = list[ForecastWave](), now, None
    while left:
        due = queues.get(None if ignore_windows else clock.astimezone(UTC).hour, [])
        batch = strategy.next_batch(_facts(len(bots), left, len(due), len(waves), clock))
        if batch.canary and not any(bot.may_be_canary for queue in queues.values() for bot in queue):
            return Forecast(len(bots), tuple(waves), waiting, None, NO_CANARY)
        wave = select_wave(batch, due)
        if not wave and list_eligible(batch, due):
            return Forecast(len(bots), tuple(waves), waiting, None, NO_WAVE)
        if not wave:
            clock = _find_next_window(batch, queues, clock)
            continue
        if not ignore_windows:
            wave = _select_startable(wave, max_parallel, per_bot, clock)
        _remove(due, wave)
        left -= len(wave)
        ends_at = clock + _count_rounds(wave, max_parallel) * per_bot
        waves.append(ForecastWave(len(waves) + 1, clock, ends_at, len(wave), tuple(wave[:FIRST])))
        clock = ends_at + strategy.pause_duration()
    return Forecast(len(bots), tuple(waves), waiting, ends_at)


def _queue_by_hour(bots: Sequence[ForecastBot], ignore_windows: bool) -> dict[int | None, list[ForecastBot]]:
    """Sort the bots by the hour in which they may start; all are under None where windows do not count."""
    queues: dict[int | None, list[ForecastBot]] = {}
    for bot in bots:
        queues.setdefault(None if ignore_windows else bot.hour_utc, []).append(bot)
    return queues


def _find_next_window(batch: Batch, queues: Mapping[int | None, list[ForecastBot]], clock: datetime) -> datetime:
    """Return when the first bot that the wave may take is due."""
    hours = [hour for hour, queue in queues.items() if hour is not None and list_eligible(batch, queue)]
    return min(windows.next_window(hour, clock).opens for hour in hours)


def _facts(total: int, remaining: int, due: int, wave: int, now: datetime) -> Facts:
    return Facts(
        total=total,
        wave=wave,
        due=due,
        in_flight=0,
        updated=total - remaining,
        failed=0,
        proven=wave > 0,
        wave_ended_at=None,
        now=now,
    )


def _select_startable(
    wave: Sequence[ForecastBot], max_parallel: int, per_bot: timedelta, now: datetime
) -> list[ForecastBot]:
    """Select the bots of a wave that can start before the window closes; the others wait for their next window."""
    # All bots of the wave are due, so the same window is open for all of them.
    left = windows.next_window(wave[0].hour_utc, now).closes - now
    capacity = max(1, math.ceil(left / per_bot)) * max_parallel
    per_node: Counter[str] = Counter()
    selected = []
    for bot in wave:
        per_node[bot.node_id] += 1
        if per_node[bot.node_id] <= capacity:
            selected.append(bot)
    return selected


def _remove(queue: list[ForecastBot], wave: Sequence[ForecastBot]) -> None:
    """Remove the bots of a wave from the bots that were due. Mostly they are the first ones."""
    if queue[: len(wave)] == wave:
        del queue[: len(wave)]
        return
    # Bots of a test may be equal, so they are removed by their number.
    to_remove = Counter(wave)
    rest = []
    for bot in queue:
        if to_remove[bot]:
            to_remove[bot] -= 1
        else:
            rest.append(bot)
    queue[:] = rest


def _count_rounds(wave: Sequence[ForecastBot], max_parallel: int) -> int:
    per_node = Counter(bot.node_id for bot in wave)
    return max(math.ceil(number / max_parallel) for number in per_node.values())


def _count_waiting(bots: Sequence[ForecastBot], now: datetime, ignore_windows: bool) -> dict[int, int]:
    if ignore_windows:
        return {}
    hours = Counter(bot.hour_utc for bot in bots if not windows.is_open(bot.hour_utc, now))
    return dict(sorted(hours.items()))
