"""Health checks: one probe, the address of a container, and the wait for two consecutive successes."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from daemon.engine.addresses import read_address
from daemon.engine.health_probe import HealthCheck, HealthResult, choose_pause, probe, wait_until_healthy
from daemon.snapshots import helper_containers
from demo.versions import CRASHING, FIRST, UNHEALTHY, BotVersion
from portal.models import HealthExpectation, Node
from tests.support.images import ReferenceImages
from tests.support.raw_http import response, running_server
from tests.support.slow_peers import FILLER, Answer, slow_server

NODE = Node(name="here", docker_url="unix:///somewhere", bot_host="192.0.2.7", snapshot_dir="/nowhere")
HERE = Node(name="here", docker_url="unix:///somewhere", bot_host="127.0.0.1", snapshot_dir="/nowhere")
REMOTE = Node(name="far", docker_url="tcp://far:2376", bot_host="far", snapshot_dir="/nowhere")


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (response(b'{"status": "ok", "more": [1]}'), True, "ok"),
        (response(b'{"status": "ok"}', "503 Service Unavailable"), False, "HTTP 503"),
        (response(b'{"status": "ok"}', "204 No Content"), False, "HTTP 204"),
        (response(b'{"status": "degraded"}'), False, "HTTP 200 with status 'degraded' instead of 'ok'"),
        (response(b'{"state": "ok"}'), False, "HTTP 200 without a status"),
        (response(b'{"status": ["ok"]}'), False, "HTTP 200 without a status"),
        (response(b'["ok"]'), False, "HTTP 200 without a status"),
        (response(b"<h1>ok</h1>"), False, "HTTP 200, but the answer is not JSON"),
        (response(b'{"status": "ok"}' + b" " * (64 << 10)), False, "answer larger than 64 KB"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "no answer: SSH-2.0-OpenSSH_9.2"),
        (response(b"[" * 60_000), False, "HTTP 200, but the answer is not JSON"),
        (response(b'{"status": ' + b"[" * 60_000), False, "HTTP 200, but the answer is not JSON"),
        (response(b'{"status": "a\\u0000\\ud800\\u202e b"}'), False, "HTTP 200 with status 'a b' instead of 'ok'"),
        (b"HTTP/1.1 \0\x1b[2J OK\r\n\r\n", False, "no answer: HTTP/1.1 OK"),
        (b"HTTP/1.1 " + b"9" * 60_000 + b"\r\n\r\n", False, "no answer: HTTP/1.1 " + "9" * 190 + "…"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            False,
            "no answer: IncompleteRead(0 bytes read)",
        ),
    ],
)
def test_only_http_200_with_status_ok_is_healthy(answer: bytes, ok: bool, detail: str) -> None:
    with running_server(answer) as (address, requests):
        found = probe(address, HealthCheck("/health"))

    assert (found.ok, found.detail.strip()) == (ok, detail)
    assert requests[0].startswith(b"GET /health HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        ("200 OK", True),
        ("204 No Content", True),
        ("302 Found", False),
        ("404 Not Found", False),
        ("500 Error", False),
    ],
)
def test_any_2xx_is_healthy_where_the_bot_says_so(status: str, ok: bool) -> None:
    with running_server(response(b"<h1>fine</h1>", status)) as (address, _):
        found = probe(address, HealthCheck("/health", expectation=HealthExpectation.ANY_2XX))

    assert (found.ok, found.detail) == (ok, f"HTTP {status[:3]}")


@pytest.mark.parametrize(
    ("address", "path"),
    [("127.0.0.1:1", "/gesundheit-ä"), ("127.0.0.1:1", "/a b\n"), ("here:port", "/"), ("x" * 70 + ":1", "/")],
)
def test_address_or_path_that_cannot_be_sent_is_no_answer(address: str, path: str) -> None:
    assert probe(address, HealthCheck(path)).detail.startswith("no answer: ")


def test_redirect_is_not_followed() -> None:
    with running_server(response(b'{"status": "ok"}')) as (target, requests):
        redirect = response(b"", "302 Found", f"Location: http://{target}/health\r\n")
        with running_server(redirect) as (address, _):
            assert probe(address, HealthCheck("/health")).detail == "HTTP 302"
        assert requests == []


def test_proxy_settings_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server(response(b'{"status": "ok"}')) as (proxy, requests):
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        with running_server(response(b"{}")) as (address, _):
            assert not probe(address, HealthCheck("/health")).ok
        assert requests == []


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX-Filler: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_slow_answer_times_out(start: bytes) -> None:
    with slow_server(lambda _: Answer(start, FILLER)) as address:
        assert probe(address, HealthCheck("/health"), seconds=0.5).detail == "timed out (0.5 s)"


def test_closed_port_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert probe(address, HealthCheck("/health")).detail == "no answer: Connection refused"


def description(mode: str = "bridge", ports: dict[str, Any] | None = None, **networks: str) -> dict[str, Any]:
    """Return an engine's description of a running container."""
    return {
        "State": {"Running": True},
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {
            "Ports": ports or {},
            "Networks": {name: {"IPAddress": address} for name, address in networks.items()},
        },
    }


PUBLISHED = {"3100/tcp": [{"HostIp": "0.0.0.0", "HostPort": "20001"}, {"HostIp": "::", "HostPort": "20001"}]}


@pytest.mark.parametrize(
    ("inspect", "node", "address"),
    [
        (description(ports=PUBLISHED, bridge="172.17.0.2"), NODE, "192.0.2.7:20001"),
        (description(ports={"3100/tcp": None}, bridge="172.17.0.2"), NODE, "172.17.0.2:3100"),
        (description("default", bridge="172.17.0.2"), NODE, "172.17.0.2:3100"),
        (description("own", bridge="172.17.0.2", own="10.0.0.2"), NODE, "10.0.0.2:3100"),
        (description("host"), NODE, "192.0.2.7:3100"),
        (description(bridge=""), NODE, None),
        (description("none"), NODE, None),
        (description(bridge="172.17.0.2"), REMOTE, None),
        (description(ports=PUBLISHED), REMOTE, "far:20001"),
    ],
)
def test_address_of_a_container(inspect: dict[str, Any], node: Node, address: str | None) -> None:
    assert read_address(inspect, node, 3100) == address


def test_ipv6_host_is_put_in_brackets() -> None:
    node = Node(name="six", docker_url="tcp://six:2376", bot_host="2001:db8::1", snapshot_dir="/nowhere")
    assert read_address(description(ports=PUBLISHED), node, 3100) == "[2001:db8::1]:20001"


@pytest.fixture
def start(
    engine: docker.APIClient, reference_images: ReferenceImages, run_labels: dict[str, str]
) -> Iterator[Callable[[BotVersion], str]]:
    """Return a function that starts a container of a release and returns its id."""
    started: list[str] = []

    def start(version: BotVersion) -> str:
        container = engine.create_container(reference_images.reference(version), labels=run_labels)
        started.append(container["Id"])
        engine.start(container["Id"])
        return str(container["Id"])

    yield start
    for container in started:
        helper_containers.remove_helper(engine, container)


def wait(engine: docker.APIClient, container: str, timeout: float = 60) -> HealthResult:
    """Wait for a container that is reached by its address in the engine's network."""
    return wait_until_healthy(engine, container, HERE, HealthCheck("/health"), timeout=timeout, interval=0.5)


@pytest.mark.parametrize(
    ("elapsed", "after_success", "pause"),
    [(0, False, 0.05), (9, False, 0.9), (60, False, 5), (9, True, 0.1), (60, True, 0.1)],
)
def test_pauses_delay_a_healthy_bot_by_a_tenth_of_its_start(
    elapsed: float, pause: float, *, after_success: bool
) -> None:
    assert choose_pause(elapsed, 5, after_success=after_success) == pytest.approx(pause)


def test_pauses_are_never_longer_than_the_interval() -> None:
    assert choose_pause(60, 0.05, after_success=False) == choose_pause(60, 0.05, after_success=True) == 0.05


@pytest.mark.docker
@pytest.mark.registry
def test_good_release_becomes_healthy(engine: docker.APIClient, start: Callable[[BotVersion], str]) -> None:
    health = wait(engine, start(FIRST))

    assert health.healthy
    assert health.address is not None
    assert probe(health.address, HealthCheck("/health")).ok


@pytest.mark.docker
@pytest.mark.registry
def test_unhealthy_release_fails_with_its_last_answer(
    engine: docker.APIClient, start: Callable[[BotVersion], str]
) -> None:
    container = start(UNHEALTHY)
    health = wait(engine, container, timeout=10)

    assert not health.healthy
    assert health.reason == "HTTP 503 after 10 s of probing"


@pytest.mark.docker
@pytest.mark.registry
def test_container_that_exits_fails_at_once(engine: docker.APIClient, start: Callable[[BotVersion], str]) -> None:
    health = wait(engine, start(CRASHING), timeout=100_000)

    assert not health.healthy
    assert "exited with status" in health.reason


@pytest.mark.docker
@pytest.mark.registry
@pytest.mark.parametrize(("action", "reason"), [("restart", "stopped and started"), ("remove", "was removed")])
def test_container_that_is_restarted_or_removed_by_hand_fails_at_once(
    engine: docker.APIClient,
    start: Callable[[BotVersion], str],
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    reason: str,
) -> None:
    container = start(UNHEALTHY)

    def interfere_and_probe(address: str, check: HealthCheck) -> Any:
        if action == "restart":
            engine.restart(container, timeout=0)
        else:
            engine.remove_container(container, force=True, v=True)
        return probe(address, check)

    monkeypatch.setattr("daemon.engine.health_probe.probe", interfere_and_probe)
    health = wait(engine, container, timeout=100_000)

    assert not health.healthy
    assert reason in health.reason


@pytest.mark.docker
@pytest.mark.registry
def test_one_successful_probe_is_not_enough(
    engine: docker.APIClient, start: Callable[[BotVersion], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bool] = []

    def fail_every_other_probe(address: str, check: HealthCheck) -> Any:
        found = probe(address, check)
        answers.append(found.ok)
        return found if len(answers) % 2 else type(found)(ok=False, detail="hiccup")

    container = start(FIRST)
    assert wait(engine, container).healthy
    monkeypatch.setattr("daemon.engine.health_probe.probe", fail_every_other_probe)
    health = wait(engine, container, timeout=4)

    assert answers.count(True) > 2
    assert not health.healthy
