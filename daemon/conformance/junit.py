"""JUnit XML of a run, which continuous integration systems show. Used by `flotilla conformance`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from daemon.conformance.outcomes import CheckResult, Outcome

_INVALID_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(image: str, results: Sequence[CheckResult]) -> str:
    """Return a report as JUnit XML: a suite per part of the contract, a case per check.

    Args:
        image: the image under test.
        results: all results in order.
    """
    root = Element("testsuites", {"name": _clean(f"Conformance of {image}"), **_totals(results)})
    for group, members in groupby(results, lambda result: result.check.group):
        cases = list(members)
        suite = SubElement(root, "testsuite", {"name": group, **_totals(cases)})
        for result in cases:
            _add_case(suite, result)
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(suite: Element, result: CheckResult) -> None:
    check = result.check
    name = f"{check.clause} {check.title}"
    case = SubElement(suite, "testcase", classname=check.name, name=name, time=f"{result.seconds:.3f}")
    if result.outcome is Outcome.FAILED:
        SubElement(case, "failure", type=check.clause, message=_first_line(result)).text = _clean(result.reason)
    elif result.outcome is not Outcome.PASSED:
        SubElement(case, "skipped", message=f"{result.outcome}: {_first_line(result)}")


def _first_line(result: CheckResult) -> str:
    return _clean(result.reason.partition("\n")[0])


def _totals(results: Sequence[CheckResult]) -> dict[str, str]:
    outcomes = [result.outcome for result in results]
    return {
        "tests": str(len(results)),
        "failures": str(outcomes.count(Outcome.FAILED)),
        "errors": "0",
        "skipped": str(outcomes.count(Outcome.SKIPPED) + outcomes.count(Outcome.NOT_OFFERED)),
        "time": f"{sum(result.seconds for result in results):.3f}",
    }


def _clean(text: str) -> str:
    return _INVALID_IN_XML.sub("", text)
