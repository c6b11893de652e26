"""Reports: lines for people, JSON, JUnit XML; and outcomes of checks that end unexpectedly."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from daemon.conformance import report
from daemon.conformance.junit import as_junit
from daemon.conformance.options import BotOptions
from daemon.conformance.outcomes import Check, CheckResult, NotOffered, Outcome, Skipped, Violation
from daemon.conformance.runner import run_checks
from daemon.conformance.trial import Trial
from daemon.engine.client import EngineUnreachable
from tests.daemon.conformance.local_lab import LocalLab


def fail_with(error: Exception, *needs: Check) -> Check:
    """Return a check that ends with an error."""

    def run(_: Trial) -> None:
        raise error

    return Check("C1", "Works", run, needs)


PASSING = Check("C2", "Passes", lambda _: None)
FAILING = fail_with(Violation("First line <&>\x00\uffff\nSecond line"))


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A trial that starts no bot."""
    return Trial(LocalLab(tmp_path), "good", BotOptions())


@pytest.fixture
def results(trial: Trial) -> list[CheckResult]:
    """One result per outcome, and a check that needs a failed one."""
    checks = [
        PASSING,
        FAILING,
        fail_with(NotOffered("No list.")),
        fail_with(Skipped("No image.")),
        fail_with(ValueError("x"), FAILING),
    ]
    return list(run_checks(checks, trial))


def test_outcomes_follow_from_errors(results: list[CheckResult]) -> None:
    assert [(result.outcome, result.reason) for result in results] == [
        (Outcome.PASSED, ""),
        (Outcome.FAILED, "First line <&>\x00\uffff\nSecond line"),
        (Outcome.NOT_OFFERED, "No list."),
        (Outcome.SKIPPED, "No image."),
        (Outcome.SKIPPED, "Needs: Works."),
    ]


def test_check_that_breaks_is_a_failure_without_a_traceback(trial: Trial) -> None:
    (result,) = run_checks([fail_with(KeyError("secret"))], trial)
    assert (result.outcome, result.reason) == (
        Outcome.FAILED,
        "The check itself failed (KeyError). Please report this.",
    )


def test_engine_that_does_not_answer_ends_the_run(trial: Trial) -> None:
    with pytest.raises(EngineUnreachable):
        list(run_checks([fail_with(EngineUnreachable("gone"))], trial))


def test_lines_name_outcome_clause_and_reason(results: list[CheckResult]) -> None:
    lines = list(report.result_lines(results[1]))
    assert lines[0] == "FAILED       C1    Works"
    assert lines[2] == f"{' ' * 19}Second line"
    summary = list(report.summary_lines(results))
    assert summary[1].startswith("1 passed, 1 failed, 1 not offered, 2 skipped in ")
    assert summary[2] == "The image does not conform. See docs/bot-contract.md: C1."
    assert list(report.summary_lines(results[2:]))[-1] == "The image conforms to docs/bot-contract.md."


def test_json_has_counts_and_checks(results: list[CheckResult]) -> None:
    document = report.as_json("bot:1", None, results)
    assert document["counts"] == {"passed": 1, "failed": 1, "not offered": 1, "skipped": 2}
    assert document["conforms"] is False
    assert [check["outcome"] for check in document["checks"]] == [
        "passed",
        "failed",
        "not offered",
        "skipped",
        "skipped",
    ]
    assert document["checks"][0]["reason"] is None


def test_junit_is_valid_xml_with_consistent_counts(results: list[CheckResult]) -> None:
    root = ET.fromstring(as_junit("bot\x01:1", results))  # noqa: S314 - our own text
    assert root.get("name") == "Conformance of bot:1"
    totals = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert totals == {"tests": "5", "failures": "1", "errors": "0", "skipped": "3"}
    for suite in root.iter("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    (failure,) = root.iter("failure")
    assert (failure.get("message"), failure.text) == ("First line <&>", "First line <&>\nSecond line")
