"""Rollout strategies: names, parameters and decisions. Used by the planner, the forecast, forms and the command line.

Forms and the command line derive their fields from `PARAMETERS` and `STRATEGIES`. A new strategy needs a name in
`StrategyName`, a class below and an entry in `STRATEGIES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from portal.rules.canary import DEFAULT_CANARIES
from portal.rules.health_check_timeout import HEALTH_CHECK_TIMEOUT


class StrategyName(StrEnum):
    """Name of a strategy, as it is stored with a rollout."""

    ROLLING_WAVE = "rolling_wave"
    SINGLE_BOT = "single_bot"
    IMMEDIATE = "immediate"


class ParameterError(ValueError):
    """A value that a strategy parameter does not accept.

    Args:
        field: name of the parameter.
        message: what is wrong with the value.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field.replace('_', ' ')} {message}")
        self.field = field


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A whole number that an operator can set for a strategy."""

    name: str
    label: str
    hint: str
    """Explains the value below its field on a form."""
    help: str
    """Describes the parameter at the command line."""
    default: int
    minimum: int
    maximum: int

    def parse(self, value: Any) -> int:
        """Convert a value from a form, the command line or a database row.

        Raises:
            ParameterError: the value is not a whole number in the range of the parameter.
        """
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = None
        if number is None or isinstance(value, bool | float) or not self.minimum <= number <= self.maximum:
            raise ParameterError(
                self.name, f"must be a whole number from {self.minimum} to {self.maximum}, not {value!r}"
            )
        return number


PARAMETERS: dict[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        Parameter(
            name="canary",
            label="Canary bots",
            hint="updated first",
            help="Bots in the first wave, which has to prove the release.",
            default=DEFAULT_CANARIES,
            minimum=1,
            maximum=100,
        ),
        Parameter(
            name="percentage",
            label="Wave size (%)",
            hint="of all bots",
            help="Size of each later wave, in percent of all bots; at least one bot.",
            default=25,
            minimum=1,
            maximum=100,
        ),
        Parameter(
            name="pause_seconds",
            label="Pause (seconds)",
            hint="between waves",
            help="Seconds between the end of a wave and the next one.",
            default=60,
            minimum=0,
            maximum=86_400,
        ),
        Parameter(
            name="failure_threshold",
            label="Stop after N failures",
            hint="in all waves",
            help="Number of failed bots that aborts the rollout.",
            default=3,
            minimum=1,
            maximum=1000,
        ),
        Parameter(
            name="max_retries",
            label="Retries",
            hint="for infrastructure errors",
            help="Retries of a bot after an infrastructure error, such as an unreachable engine.",
            default=2,
            minimum=0,
            maximum=10,
        ),
    )
}
"""Every parameter by its name, in the order in which forms and the command line show them."""

DEFAULTS: dict[str, int] = {name: parameter.default for name, parameter in PARAMETERS.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The facts of a rollout that a strategy decides by."""

    total: int
    """Bots of the rollout, without skipped ones."""
    wave: int
    """Number of the last wave; 0 before the first."""
    due: int
    """Bots that could start now."""
    in_flight: int
    """Bots of the last wave whose update has not ended."""
    updated: int
    failed: int
    """Failures that count against the release, including updated bots that turned unhealthy."""
    proven: bool
    """An earlier wave has a healthy bot on this release."""
    wave_ended_at: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """The next wave: at most `size` bots. A canary batch takes only healthy bots whose data is fully protected."""

    size: int
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a bot was not updated.

    Attributes:
        text: the reason, for operators.
        transient: the release cannot be the cause, as when the engine is unreachable.
    """

    text: str
    transient: bool = False


class OnFailure(StrEnum):
    """The consequence of a failed bot: end the rollout, leave the bot out, or try the bot again."""

    ABORT = "abort"
    SKIP = "skip"
    RETRY = "retry"


class RolloutStrategy(ABC):
    """Interface of all strategies.

    A strategy is stateless: each method receives the facts of the moment and returns a decision, so that any process
    can take over at any time and reaches the same decision.

    A strategy decides:
        - how many bots the next wave has, and whether it is a canary wave (`next_batch`),
        - how long the pause between two waves is (`pause_duration`),
        - whether a failed bot is retried or skipped, or aborts the rollout (`on_bot_failure`, `max_retries`),
        - how long a new container may take to become healthy (`health_check_timeout`).

    A strategy does not decide:
        - which bots belong to the rollout (`portal.services.rollouts.eligibility`),
        - which of the due bots a wave takes (`portal.rules.waves`),
        - when a bot is due: windows, node states, the wait before a retry,
        - how many bots a node updates in parallel, when a stalled rollout is paused, and whether an aborted rollout
          quarantines its release (`portal.rules.planner`),
        - how one bot is updated and rolled back.
    """

    name: ClassVar[StrategyName]
    label: ClassVar[str]
    """The strategy in a list of choices: name, colon, what it does."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters that this strategy uses; forms hide all others."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.parameters = parameters

    @abstractmethod
    def next_batch(self, facts: Facts) -> Batch:
        """Return size and kind of the next wave. The planner asks only when no bot of the last wave is in flight.

        A wave of size 0 starts nothing until the next tick. Use it only for the pause after `facts.wave_ended_at`,
        with the length of `pause_duration`. The forecast adds this pause itself: it asks with a `wave_ended_at` of
        None and without failures, and ends where it still gets the size 0.
        """

    @abstractmethod
    def pause_duration(self) -> timedelta:
        """Return the pause between the end of a wave and the next one."""

    def on_bot_failure(self, facts: Facts, bot_id: str, failure: Failure, attempt: int) -> OnFailure:
        """Return the consequence of a failed bot.

        A transient failure is retried up to `max_retries()` times and never aborts the rollout. An unhealthy new
        container is not retried, because a retry would be a second outage.

        Args:
            facts: facts in which `failed` includes this failure and `wave` is the wave of the bot.
            bot_id: the bot.
            failure: why the bot was not updated.
            attempt: number of attempts so far, 1 after the first.
        """
        if failure.transient:
            return OnFailure.RETRY if attempt <= self.max_retries() else OnFailure.SKIP
        return self._on_release_failure(facts)

    def max_retries(self) -> int:
        """Return how often a bot may be retried."""
        return self.parameters["max_retries"]

    def health_check_timeout(self) -> timedelta:
        """Return how long a new container may take to become healthy."""
        return HEALTH_CHECK_TIMEOUT

    def _on_release_failure(self, facts: Facts) -> OnFailure:
        return OnFailure.SKIP


class RollingWave(RolloutStrategy):
    """A canary wave, then waves of a percentage of all bots. Used by automatic updates."""

    name = StrategyName.ROLLING_WAVE
    label = "Rolling: canary bots first, then the rest in waves"
    uses = ("canary", "percentage", "pause_seconds", "failure_threshold", "max_retries")

    def next_batch(self, facts: Facts) -> Batch:
        """Return a canary wave until one has proven the release, then a percentage of all bots after each pause."""
        if not facts.proven:
            return Batch(self.parameters["canary"], canary=True)
        if facts.wave_ended_at is not None and facts.now < facts.wave_ended_at + self.pause_duration():
            return Batch(0)
        return Batch(max(1, facts.total * self.parameters["percentage"] // 100))

    def pause_duration(self) -> timedelta:
        """Return the pause that the operator set."""
        return timedelta(seconds=self.parameters["pause_seconds"])

    def _on_release_failure(self, facts: Facts) -> OnFailure:
        if not facts.proven or facts.failed >= self.parameters["failure_threshold"]:
            return OnFailure.ABORT
        return OnFailure.SKIP


class SingleBot(RolloutStrategy):
    """One bot after another without a pause; a failure does not stop the other bots. Used by "Update now"."""

    name = StrategyName.SINGLE_BOT
    label = "One by one: a single bot at a time, without pauses"
    uses = ("max_retries",)

    def next_batch(self, facts: Facts) -> Batch:
        """Return a wave of one bot."""
        return Batch(1)

    def pause_duration(self) -> timedelta:
        """Return no pause."""
        return timedelta()


class Immediate(RolloutStrategy):
    """Every due bot at once; a failure does not stop the other bots. Used for emergency fixes."""

    name = StrategyName.IMMEDIATE
    label = "Immediate: all bots at once, for emergency fixes"
    uses = ("max_retries",)

    def next_batch(self, facts: Facts) -> Batch:
        """Return a wave of all due bots."""
        return Batch(facts.due)

    def pause_duration(self) -> timedelta:
        """Return no pause."""
        return timedelta()


STRATEGIES: dict[str, type[RolloutStrategy]] = {
    strategy.name: strategy for strategy in (RollingWave, SingleBot, Immediate)
}
"""Every strategy by its name, in the order in which forms show them."""


def parse_parameters(name: str, values: Mapping[str, Any]) -> dict[str, int]:
    """Validate parameters from a form, the command line or a database row, and add the defaults.

    Returns:
        The parameters that the strategy uses, as they are stored with a rollout.

    Raises:
        ParameterError: the strategy or a parameter does not exist, or a value is outside its range.
    """
    if name not in STRATEGIES:
        raise ParameterError("strategy", f"{name!r} does not exist; use one of {', '.join(STRATEGIES)}")
    unknown = sorted(set(values) - PARAMETERS.keys())
    if unknown:
        raise ParameterError(unknown[0], f"is not a strategy parameter; use {', '.join(PARAMETERS)}")
    complete = DEFAULTS | {field: PARAMETERS[field].parse(value) for field, value in values.items()}
    return {field: complete[field] for field in STRATEGIES[name].uses}


def strategy_for(name: str, values: Mapping[str, Any]) -> RolloutStrategy:
    """Create a strategy by its name.

    Raises:
        ParameterError: see `parse_parameters`.
    """
    return STRATEGIES[name](DEFAULTS | parse_parameters(name, values))
