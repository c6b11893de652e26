"""Reports of a run for people and as JSON. Used by `flotilla conformance`."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from daemon.conformance.outcomes import CheckResult, Outcome

_LABELS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "FAILED",
    Outcome.NOT_OFFERED: "not offered",
    Outcome.SKIPPED: "skipped",
}
_INDENT = " " * 19


def conforms(results: Sequence[CheckResult]) -> bool:
    """Return whether no check failed."""
    return all(result.outcome is not Outcome.FAILED for result in results)


def result_lines(result: CheckResult) -> Iterator[str]:
    """Yield the lines of one result: outcome, clause and title, then the reason."""
    yield f"{_LABELS[result.outcome]:<12} {result.check.clause:<5} {result.check.title}"
    for line in result.reason.splitlines():
        yield from textwrap.wrap(line, 100, initial_indent=_INDENT, subsequent_indent=_INDENT) or [""]


def summary_lines(results: Sequence[CheckResult]) -> Iterator[str]:
    """Yield the last lines of a report: numbers, and whether the image conforms."""
    counts = Counter(result.outcome for result in results)
    seconds = sum(result.seconds for result in results)
    yield ""
    yield ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome) + f" in {seconds:.0f} s"
    if not conforms(results):
        clauses = dict.fromkeys(result.check.clause for result in results if result.outcome is Outcome.FAILED)
        yield f"The image does not conform. See docs/bot-contract.md: {', '.join(clauses)}."
    else:
        yield "The image conforms to docs/bot-contract.md."


def as_json(image: str, against: str | None, results: Sequence[CheckResult]) -> dict[str, Any]:
    """Return a report as data.

    Args:
        image: the image under test.
        against: the earlier image, or None.
        results: all results in order.
    """
    return {
        "image": image,
        "against": against,
        "conforms": conforms(results),
        "counts": {outcome.value: sum(result.outcome is outcome for result in results) for outcome in Outcome},
        "checks": [
            {
                "name": result.check.name,
                "clause": result.check.clause,
                "title": result.check.title,
                "outcome": result.outcome.value,
                "reason": result.reason or None,
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }
