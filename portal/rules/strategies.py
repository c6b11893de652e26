"""Strategies: how a rollout walks through its bots.

A strategy holds no state. It is asked with the facts of the moment and answers what should happen, so that any
process can take over at any time and comes to the same answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

HEALTH_CHECK_TIMEOUT = timedelta(seconds=120)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a strategy may know of a rollout."""

    total: int
    """Bots that take part; those left out are not counted."""
    wave: int
    """Number of the wave that was cut last; 0 before the first."""
    due: int
    """Bots that could start now."""
    in_flight: int
    """Bots of the wave that have not ended."""
    updated: int
    failed: int
    """Failures that may be the release's fault, and updated bots that turned unhealthy afterwards."""
    proven: bool
    """An earlier wave has shown a bot healthy on this release."""
    wave_ended_at: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """The next wave: at most `size` bots; a canary's wave takes only healthy bots whose data is fully protected."""

    size: int
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a bot was not updated; `transient` when it cannot be the release's fault (engine unreachable …)."""

    text: str
    transient: bool = False


class OnFailure(StrEnum):
    """What follows from the failure of one bot."""

    ABORT = "abort"
    SKIP = "skip"
    RETRY = "retry"


class ParameterError(ValueError):
    """A parameter that makes no sense.

    Args:
        field: the parameter's name.
        message: what is wrong with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field.replace('_', ' ')} {message}")
        self.field = field


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What an operator can set; each strategy uses those that concern it."""

    canary: int = 1
    """Bots of the first wave, which has to prove the release."""
    percentage: int = 25
    """Size of each later wave, in percent of all bots of the rollout; at least one bot."""
    pause_seconds: int = 60
    """Time between the end of a wave and the next, during which updated bots are watched."""
    failure_threshold: int = 3
    """Failed bots at which the rollout is aborted."""
    max_retries: int = 2
    """How often a bot is tried again after a failure that cannot be the release's fault."""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Read parameters from a form, the command line or a database row; those not given have their defaults.

        Raises:
            ParameterError: naming the first field that is unknown, no whole number, or out of its range.
        """
        unknown = sorted(set(values) - _LIMITS.keys())
        if unknown:
            raise ParameterError(unknown[0], f"is no parameter of a strategy; use {', '.join(_LIMITS)}")
        return cls(**{field: _whole_number(field, value) for field, value in values.items()})


_LIMITS = {
    "canary": (1, 100),
    "percentage": (1, 100),
    "pause_seconds": (0, 86_400),
    "failure_threshold": (1, 1000),
    "max_retries": (0, 10),
}


def _whole_number(field: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = None
    least, most = _LIMITS[field]
    if number is None or isinstance(value, bool | float) or not least <= number <= most:
        raise ParameterError(field, f"must be a whole number from {least} to {most}, not {value!r}")
    return number


class RolloutStrategy(ABC):
    """The interface that rollouts use; a rollout does not know which strategy it follows."""

    uses: tuple[str, ...] = ()
    """Names of the parameters that matter to this strategy."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    @abstractmethod
    def next_batch(self, facts: Facts) -> Batch:
        """Say how many of the due bots make the next wave; asked only when no bot of the last wave is in flight."""

    @abstractmethod
    def pause_duration(self) -> timedelta:
        """Say how long to wait between the end of a wave and the next."""

    def on_bot_failure(self, facts: Facts, bot_id: str, error: Failure, attempt: int) -> OnFailure:
        """Say what follows from a failure: another attempt, nothing for the other bots, or the end of the rollout.

        A failure that cannot be the release's fault is retried up to `max_retries()` times and never aborts. An
        unhealthy new container is not tried again: that would be a second outage.

        Args:
            facts: with `failed` counting this failure, and `wave` being that of the bot.
            bot_id: the bot.
            error: what happened.
            attempt: attempts made so far, 1 after the first.
        """
        if error.transient:
            return OnFailure.RETRY if attempt <= self.max_retries() else OnFailure.SKIP
        return self._on_fault(facts)

    def max_retries(self) -> int:
        """Say how often a bot may be tried again."""
        return self.parameters.max_retries

    def health_check_timeout(self) -> timedelta:
        """Say how long a new container may take to become healthy."""
        return HEALTH_CHECK_TIMEOUT

    def _on_fault(self, facts: Facts) -> OnFailure:
        return OnFailure.SKIP


class RollingWave(RolloutStrategy):
    """A canary first and alone, then waves of a percentage of the whole. For automatic updates."""

    uses = ("canary", "percentage", "pause_seconds", "failure_threshold", "max_retries")

    def next_batch(self, facts: Facts) -> Batch:
        """Take canaries until one has proven the release, then a share of the whole after each pause."""
        if not facts.proven:
            return Batch(self.parameters.canary, canary=True)
        if facts.wave_ended_at is not None and facts.now < facts.wave_ended_at + self.pause_duration():
            return Batch(0)
        return Batch(max(1, facts.total * self.parameters.percentage // 100))

    def pause_duration(self) -> timedelta:
        """Wait as long as the operator set."""
        return timedelta(seconds=self.parameters.pause_seconds)

    def _on_fault(self, facts: Facts) -> OnFailure:
        if not facts.proven or facts.failed >= self.parameters.failure_threshold:
            return OnFailure.ABORT
        return OnFailure.SKIP


class SingleBot(RolloutStrategy):
    """One bot after another without pause; failures are reported and stop nobody else. For "Update now"."""

    uses = ("max_retries",)

    def next_batch(self, facts: Facts) -> Batch:
        """Take the next one."""
        return Batch(1)

    def pause_duration(self) -> timedelta:
        """Go on at once."""
        return timedelta()


class Immediate(RolloutStrategy):
    """Every due bot at once, whatever happens to the others. For emergency fixes."""

    uses = ("max_retries",)

    def next_batch(self, facts: Facts) -> Batch:
        """Take all that are due."""
        return Batch(facts.due)

    def pause_duration(self) -> timedelta:
        """Go on at once."""
        return timedelta()


STRATEGIES: dict[str, type[RolloutStrategy]] = {
    "rolling_wave": RollingWave,
    "single_bot": SingleBot,
    "immediate": Immediate,
}


def parse_parameters(name: str, values: Mapping[str, Any]) -> dict[str, int]:
    """Check what was entered for a strategy and complete it with the defaults.

    Returns:
        the parameters that matter to this strategy, as they are stored with a rollout.

    Raises:
        ParameterError: (a ValueError) naming the field that is wrong.
    """
    if name not in STRATEGIES:
        raise ParameterError("strategy", f"{name!r} does not exist; use one of {', '.join(STRATEGIES)}")
    complete = asdict(Parameters.parse(values))
    return {field: complete[field] for field in STRATEGIES[name].uses}


def strategy_for(name: str, values: Mapping[str, Any]) -> RolloutStrategy:
    """Make the strategy of that name.

    Raises:
        ParameterError: naming the field that is wrong.
    """
    return STRATEGIES[name](Parameters.parse(parse_parameters(name, values)))


DEFAULTS: dict[str, int] = asdict(Parameters())
"""Every parameter with its default, for forms."""
