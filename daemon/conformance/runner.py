"""Running checks: order, prerequisites, outcomes. Used by `flotilla conformance`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from docker.errors import DockerException

from daemon.conformance.outcomes import Check, CheckResult, NotOffered, Outcome, Skipped, Violation
from daemon.conformance.trial import Trial
from daemon.errors import OperationFailed

logger = logging.getLogger(__name__)


def run_checks(checks: Sequence[Check], trial: Trial) -> Iterator[CheckResult]:
    """Run checks in order and yield their results. A check whose prerequisites did not pass is skipped.

    Raises:
        OperationFailed: the engine does not answer.
        docker.errors.DockerException: the engine refused something that is not the bot's fault.
    """
    passed: set[Check] = set()
    for check in checks:
        missing = [needed for needed in check.needs if needed not in passed]
        started = time.monotonic()
        outcome, reason = (Outcome.SKIPPED, f"Needs: {missing[0].title}.") if missing else _run(check, trial)
        if outcome is Outcome.PASSED:
            passed.add(check)
        yield CheckResult(check, outcome, reason, time.monotonic() - started)


def _run(check: Check, trial: Trial) -> tuple[Outcome, str]:
    try:
        check.run(trial)
    except Violation as error:
        return Outcome.FAILED, str(error)
    except NotOffered as error:
        return Outcome.NOT_OFFERED, str(error)
    except Skipped as error:
        return Outcome.SKIPPED, str(error)
    except (DockerException, OperationFailed):
        raise
    except Exception as error:
        logger.exception("the check %s failed", check.name)
        return Outcome.FAILED, f"The check itself failed ({type(error).__name__}). Please report this."
    return Outcome.PASSED, ""
