"""Tests of the open pages of the benchmark `web`, against a server that knows one version."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from demo.bench.dashboards import Dashboard, Page, PollReport


class _Handler(BaseHTTPRequestHandler):
    """Answer 204 to whom knows version `v7`, and 200 with that version to others."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/part?part=bots&version=v7" and self.headers["X-Tenant-Id"] == "acme":
            self.send_response(204)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"version=v7")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Run the server and return its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_open_page_keeps_its_connection_and_sends_the_version_that_it_has(port: int) -> None:
    report = PollReport()

    async def poll_three_times() -> list[str]:
        page = Page(Dashboard("/part?part=bots", "a=b", "acme"), port, report)
        answers = [await page.poll() for _ in range(3)]
        page.close()
        return answers

    assert asyncio.run(poll_three_times()) == ["200", "204", "204"]
    assert report.connections == 1


def test_report_tells_median_and_slowest_polls() -> None:
    report = PollReport(waits=[float(number) for number in range(1, 201)])
    assert (report.p50, report.p99) == (100.5, 198)
