"""Checks, their outcomes, and the errors by which a check ends early. Used by the checks, the runner and reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.conformance.trial import Trial


class Outcome(StrEnum):
    """Outcome of a check. Only `FAILED` means that the image does not conform."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_OFFERED = "not offered"
    """The bot lacks something that the contract recommends."""
    SKIPPED = "skipped"
    """The check could not run, because an earlier one did not pass or an option is missing."""


class Violation(Exception):
    """The bot violates the contract. The message names the call, what was observed and what was expected."""


class NotOffered(Exception):
    """The bot does not offer something that the contract only recommends. The message says what that costs."""


class Skipped(Exception):
    """The check cannot run. The message says why."""


@dataclass(frozen=True, eq=False)
class Check:
    """One check of one clause.

    Attributes:
        clause: number of the clause in `docs/bot-contract.md`, such as `C22`.
        title: what must be true, for display.
        run: raises `Violation`, `NotOffered` or `Skipped`; otherwise the check has passed.
        needs: checks that must have passed before.
    """

    clause: str
    title: str
    run: Callable[[Trial], None]
    needs: tuple[Check, ...] = ()

    @property
    def group(self) -> str:
        """Name of the module that contains the check, such as `members`."""
        return self.run.__module__.rpartition(".")[2]

    @property
    def name(self) -> str:
        """Stable name, such as `members.removed_person_is_refused`."""
        return f"{self.group}.{self.run.__name__}"


def check(clause: str, title: str, *needs: Check) -> Callable[[Callable[[Trial], None]], Check]:
    """Return a decorator that makes a `Check` of a function."""
    return lambda run: Check(clause, title, run, needs)


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        check: the check.
        outcome: its outcome.
        reason: why it did not pass; empty if it passed.
        seconds: how long it took.
    """

    check: Check
    outcome: Outcome
    reason: str
    seconds: float
