"""Health checks of many bots side by side: they judge as single checks do, and slow bots delay no others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import pytest

from daemon.engine import health_probe, parallel_probes
from daemon.engine.health_probe import HealthCheck, ProbeResult, probe
from daemon.engine.parallel_probes import Target, probe_all
from demo.processes import free_port
from portal.models import HealthExpectation
from tests.support.raw_http import response, running_server

OK = response(b'{"status": "ok"}')
CHECK = HealthCheck("/health")

ANSWERS = {
    "healthy": OK,
    "until the end of the connection": b'HTTP/1.0 200 OK\r\n\r\n{"status": "ok"}',
    "in chunks": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"status": "ok"}\r\n0\r\n\r\n',
    "after an informational answer": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc",
    "unhealthy": response(b'{"status": "starting"}'),
    "busy": response(b"", "503 Busy"),
    "redirect": response(b"", "302 Found", "Location: /elsewhere\r\n"),
    "cut off": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"status"',
    "too large": response(b" " * (health_probe.MAX_BYTES + 1)),
    "nothing": b"",
}


@pytest.mark.parametrize("expectation", list(HealthExpectation))
def test_answers_are_judged_as_by_a_single_probe(expectation: HealthExpectation) -> None:
    check = HealthCheck("/health", expectation=expectation)
    for name, answer in ANSWERS.items():
        with running_server(answer) as (address, _):
            single, [result] = probe(address, check), probe_all([Target(address, check, retry=False)], 1)
            assert (name, result) == (name, single)


def test_answers_without_the_form_of_http_are_failures() -> None:
    addresses = [f"127.0.0.1:{free_port()}", "127.0.0.1:port", "[::1"]
    with (
        running_server(b"\0" * 100) as (binary, _),
        running_server(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000) as (endless, _),
    ):
        results = probe_all([Target(address, CHECK, retry=False) for address in (*addresses, binary, endless)], 10)
    assert all(not result.ok and result.detail.startswith("no answer: ") for result in results)


def test_an_unforeseen_error_of_one_probe_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = health_probe.judge_answer

    def fail_for_some(check: HealthCheck, status: int, body: bytes) -> ProbeResult:
        if status == HTTPStatus.IM_A_TEAPOT:
            raise ZeroDivisionError
        return judge(check, status, body)

    monkeypatch.setattr(parallel_probes, "judge_answer", fail_for_some)
    with running_server(response(b"", "418 I am a teapot")) as (strange, _), running_server(OK) as (healthy, _):
        results = probe_all([Target(address, CHECK, retry=False) for address in (strange, healthy)], 2)
    assert [result.ok for result in results] == [False, True]


def test_a_path_cannot_add_headers_to_the_request() -> None:
    with running_server(OK) as (address, received):
        target = Target(address, HealthCheck("/health HTTP/1.1\r\nX-Platform-User-Id: root\r\n"), retry=False)
        assert not probe_all([target], 1)[0].ok
    assert not received


def test_only_targets_with_a_retry_are_probed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_probe, "RETRY_PAUSE_SECONDS", 0)
    for retry, requests in ((True, 2), (False, 1)):
        with running_server(response(b"", "503 Busy")) as (address, received):
            assert not probe_all([Target(address, CHECK, retry)], 1)[0].ok
        assert len(received) == requests


def test_a_silent_bot_is_given_up_and_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_probe, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, running_server(OK) as (healthy, _):
        hanging = f"127.0.0.1:{silent.getsockname()[1]}"
        results = probe_all([Target(address, CHECK, retry=False) for address in (hanging, healthy)], 2)
    assert [(result.ok, result.detail) for result in results] == [(False, "timed out (0.3 s)"), (True, "ok")]


def test_as_many_bots_are_probed_at_once_as_allowed() -> None:
    with bots_that_answer_together(5) as address:
        assert all(result.ok for result in probe_all([Target(address, CHECK, retry=False)] * 5, 5))


@contextmanager
def bots_that_answer_together(number: int) -> Iterator[str]:
    """Run a server that answers only when it has this number of connections."""

    def serve() -> None:
        connections = [listener.accept()[0] for _ in range(number)]
        for connection in connections:
            with connection:
                connection.recv(4096)
                connection.sendall(OK)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()
