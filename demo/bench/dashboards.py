"""Open pages that poll a web process, as many browsers would do. Used by `demo.bench.web`."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import uvloop

from demo.bench.tables import find_percentile

POLL_SECONDS = 3
"""Time between two polls of a page, as the templates say."""
_SECONDS_TO_OPEN = 30
"""Until all pages are open and know their version. The first response of a page costs more than a poll."""

_VERSION = re.compile(rb"version=(\w+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass(frozen=True)
class Dashboard:
    """A live part of a page that a person has opened.

    Attributes:
        path: path and query of the part, without a version.
        cookie: the session cookie.
        org_id: the organization of the page; empty for pages of operators.
    """

    path: str
    cookie: str
    org_id: str = ""

    def build_request(self, port: int, version: str) -> bytes:
        """Return the request with which htmx polls."""
        return (
            f"GET {self.path}&version={version} HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {self.cookie}\r\n"
            "Accept-Encoding: identity\r\nSec-Fetch-Site: same-origin\r\n"
            f"HX-Request: true\r\nX-Tenant-Id: {self.org_id}\r\n\r\n"
        ).encode()


@dataclass
class PollReport:
    """What the open pages have seen.

    Attributes:
        waits: how long each poll took, from the moment when it was due, in seconds.
        statuses: number of polls by status, or by the name of an error.
        connections: number of connections that were opened.
        cpu_seconds: CPU time of the web process in the measured time, in seconds.
    """

    waits: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    cpu_seconds: float = 0

    @property
    def p50(self) -> float:
        """The median time of a poll."""
        return statistics.median(self.waits)

    @property
    def p99(self) -> float:
        """The 99th percentile of the time of a poll."""
        return find_percentile(self.waits, 0.99)


def open_dashboards(
    dashboards: Sequence[Dashboard], port: int, seconds: float, read_cpu_seconds: Callable[[], float]
) -> PollReport:
    """Open pages evenly within one period, let them poll, and report the polls of the following time.

    Args:
        dashboards: the pages.
        port: where the web process listens on loopback.
        seconds: how long to measure, after the pages are open.
        read_cpu_seconds: returns the CPU time that the web process has used so far.
    """
    return uvloop.run(_open_all(dashboards, port, seconds, read_cpu_seconds))


async def _open_all(
    dashboards: Sequence[Dashboard], port: int, seconds: float, read_cpu_seconds: Callable[[], float]
) -> PollReport:
    report = PollReport()
    pages = [Page(dashboard, port, report) for dashboard in dashboards]
    tasks = [
        asyncio.create_task(page.poll_after(POLL_SECONDS * number / len(pages))) for number, page in enumerate(pages)
    ]
    await asyncio.sleep(_SECONDS_TO_OPEN)
    report.waits.clear()
    report.statuses.clear()
    before = read_cpu_seconds()
    await asyncio.sleep(seconds)
    report.cpu_seconds = read_cpu_seconds() - before
    measured = PollReport(list(report.waits), Counter(report.statuses), report.connections, report.cpu_seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for page in pages:
        page.close()
    return measured


class Page:
    """A page with its connection, which it opens again when the server has closed it."""

    def __init__(self, dashboard: Dashboard, port: int, report: PollReport) -> None:
        self._dashboard = dashboard
        self._port = port
        self._report = report
        self._version = "none"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def poll_after(self, delay: float) -> None:
        """Poll until this is cancelled.

        Args:
            delay: seconds until the first poll.
        """
        due = time.monotonic() + delay
        while True:
            await asyncio.sleep(due - time.monotonic())
            status = await self.poll()
            self._report.waits.append(time.monotonic() - due)
            self._report.statuses[status] += 1
            due = max(due + POLL_SECONDS, time.monotonic())

    async def poll(self) -> str:
        """Send one poll; return the status of the response, or the name of an error."""
        try:
            if self._streams is None:
                self._report.connections += 1
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(self._dashboard.build_request(self._port, self._version))
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, EOFError) as error:
            self.close()
            return type(error).__name__
        if version := _VERSION.search(body):
            self._version = version[1].decode()
        return head.split(b" ", 2)[1].decode()
