"""The cost of a page: time, statements and bytes, compared with a small fleet. Used by the benchmarks of pages."""

from __future__ import annotations

from dataclasses import dataclass

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from demo.bench.tables import Cost, measure_cost
from portal.web.extensions import db

FRAGMENT_HEADERS = {"HX-Request": "true"}
"""Headers with which htmx asks for a part of a page."""


@dataclass(frozen=True)
class PageCost:
    """The cost of one page or part of a page.

    Attributes:
        cost: durations and statements.
        size: length of the body in bytes, before compression.
    """

    cost: Cost
    size: int


def measure_page(client: FlaskClient, address: str, repetitions: int, *, fragment: bool = False) -> PageCost:
    """Measure a page within an application context.

    Args:
        client: a signed-in browser.
        address: path and query.
        repetitions: number of measured requests.
        fragment: whether htmx asks for it.

    Raises:
        RuntimeError: the page was not answered with 200 or 204.
    """
    answers: list[TestResponse] = []

    def send_request() -> None:
        answers.append(client.get(address, headers=FRAGMENT_HEADERS if fragment else {}))

    send_request()  # the first request compiles the templates
    cost = measure_cost(send_request, db.engine, repetitions)
    last = answers[-1]
    if last.status_code not in {200, 204}:
        raise RuntimeError(f"{address} answered {last.status}")
    return PageCost(cost, len(last.data))


def describe_row(name: str, page: PageCost, base: PageCost) -> tuple[str, ...]:
    """Describe a page as a row of a table, for `PAGE_HEAD`; `base` is the same page with a small fleet."""
    cost, small = page.cost, base.cost
    seconds = (cost.seconds, cost.slowest, cost.cpu_seconds)
    ratios = (cost.seconds / small.seconds, cost.cpu_seconds / small.cpu_seconds)
    return (
        name,
        *(f"{value * 1000:.0f}" for value in seconds),
        str(cost.queries),
        f"{page.size / 1000:.0f}",
        f"{small.seconds * 1000:.0f}",
        str(small.queries),
        *(f"{value:.1f}" for value in ratios),
    )


PAGE_HEAD = ("", "p50 ms", "p99 ms", "CPU ms", "statements", "KB", "small: ms", "statements", "ratio p50", "CPU")
"""Head of a table with rows of `describe_row`."""
