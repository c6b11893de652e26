"""A bot is well when it says so itself, twice running, from the very container that was started."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest

from daemon.engine.health_probe import HealthResult, probe, read_address, wait_until_healthy
from daemon.snapshots import helper_containers
from demo.versions import CRASHING, FIRST, UNHEALTHY, BotVersion
from portal.models import Node
from tests.support.images import ReferenceImages

NODE = Node(name="here", docker_url="unix:///somewhere", bot_host="192.0.2.7", snapshot_dir="/nowhere")
HERE = Node(name="here", docker_url="unix:///somewhere", bot_host="127.0.0.1", snapshot_dir="/nowhere")
REMOTE = Node(name="far", docker_url="tcp://far:2376", bot_host="far", snapshot_dir="/nowhere")


@contextmanager
def answering(*pieces: bytes, pause: float = 0) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends these pieces, with pauses between, to whoever connects; and what it was asked."""
    asked: list[bytes] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(4096))
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        over.wait(pause)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """An HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (response(b'{"status": "ok", "more": [1]}'), True, "ok"),
        (response(b'{"status": "ok"}', "503 Service Unavailable"), False, "answered 503"),
        (response(b'{"status": "ok"}', "204 No Content"), False, "answered 204"),
        (response(b'{"status": "degraded"}'), False, "answered 200 with status 'degraded' instead of 'ok'"),
        (response(b'{"state": "ok"}'), False, "answered 200 with status 'None' instead of 'ok'"),
        (response(b'["ok"]'), False, "answered 200 with status 'None' instead of 'ok'"),
        (response(b"<h1>ok</h1>"), False, "answered 200, but not with JSON"),
        (response(b'{"status": "ok"}' + b" " * (64 << 10)), False, "answered more than 64 KB"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "no answer: SSH-2.0-OpenSSH_9.2"),
    ],
)
def test_only_200_with_status_ok_is_well(answer: bytes, ok: bool, detail: str) -> None:
    with answering(answer) as (address, asked):
        found = probe(address, "/health")

    assert (found.ok, found.detail.strip()) == (ok, detail)
    assert asked[0].startswith(b"GET /health HTTP/1.1\r\n")


def test_a_redirect_is_not_followed() -> None:
    with answering(response(b'{"status": "ok"}')) as (target, asked):
        redirect = response(b"", "302 Found", f"Location: http://{target}/health\r\n")
        with answering(redirect) as (address, _):
            assert probe(address, "/health").detail == "answered 302"
        assert asked == []


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(response(b'{"status": "ok"}')) as (proxy, asked):
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        with answering(response(b"{}")) as (address, _):
            assert not probe(address, "/health").ok
        assert asked == []


def test_an_answer_that_trickles_is_cut_off() -> None:
    endless = [b"HTTP/1.1 200 OK\r\n\r\n", *(b" " for _ in range(1000))]
    with answering(*endless, pause=0.1) as (address, _):
        assert probe(address, "/health", seconds=0.5).detail == "no whole answer within 0.5 seconds"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert probe(address, "/health").detail == "no answer: Connection refused"


def inspected(mode: str = "bridge", ports: dict[str, Any] | None = None, **networks: str) -> dict[str, Any]:
    """What an engine tells of a running container."""
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
        (inspected(ports=PUBLISHED, bridge="172.17.0.2"), NODE, "192.0.2.7:20001"),
        (inspected(ports={"3100/tcp": None}, bridge="172.17.0.2"), NODE, "172.17.0.2:3100"),
        (inspected("default", bridge="172.17.0.2"), NODE, "172.17.0.2:3100"),
        (inspected("own", bridge="172.17.0.2", own="10.0.0.2"), NODE, "10.0.0.2:3100"),
        (inspected("host"), NODE, "192.0.2.7:3100"),
        (inspected(bridge=""), NODE, None),
        (inspected("none"), NODE, None),
        (inspected(bridge="172.17.0.2"), REMOTE, None),
        (inspected(ports=PUBLISHED), REMOTE, "far:20001"),
    ],
)
def test_where_a_bot_is_reached(inspect: dict[str, Any], node: Node, address: str | None) -> None:
    assert read_address(inspect, node, 3100) == address


def test_an_ipv6_host_is_put_in_brackets() -> None:
    node = Node(name="six", docker_url="tcp://six:2376", bot_host="2001:db8::1", snapshot_dir="/nowhere")
    assert read_address(inspected(ports=PUBLISHED), node, 3100) == "[2001:db8::1]:20001"


@pytest.fixture
def start(
    engine: docker.APIClient, reference_images: ReferenceImages, run_labels: dict[str, str]
) -> Iterator[Callable[[BotVersion], str]]:
    """Starts a bot of a release and returns its container."""
    started: list[str] = []

    def start(version: BotVersion) -> str:
        container = engine.create_container(reference_images.reference(version), labels=run_labels)
        started.append(container["Id"])
        engine.start(container["Id"])
        return str(container["Id"])

    yield start
    for container in started:
        helper_containers.remove_helper(engine, container)


def wait(
    engine: docker.APIClient, container: str, meanwhile: Callable[[], object] = int, timeout: float = 60
) -> HealthResult:
    """Wait for a bot that is reached by its address in the engine's network."""
    return wait_until_healthy(
        engine, container, HERE, 3100, "/health", timeout=timeout, interval=0.5, renew_or_raise=meanwhile
    )


@pytest.mark.docker
@pytest.mark.registry
def test_a_good_release_becomes_healthy(engine: docker.APIClient, start: Callable[[BotVersion], str]) -> None:
    health = wait(engine, start(FIRST))

    assert health.healthy
    assert health.address is not None
    assert probe(health.address, "/health").ok


@pytest.mark.docker
@pytest.mark.registry
def test_a_release_that_never_is_well_fails_with_its_last_answer(
    engine: docker.APIClient, start: Callable[[BotVersion], str]
) -> None:
    container = start(UNHEALTHY)
    answered = wait(engine, container, timeout=10)

    assert not answered.healthy
    assert answered.reason.startswith("not healthy within 10 seconds: answered ")


@pytest.mark.docker
@pytest.mark.registry
def test_a_container_that_exits_has_failed_at_once(
    engine: docker.APIClient, start: Callable[[BotVersion], str]
) -> None:
    health = wait(engine, start(CRASHING), timeout=100_000)

    assert not health.healthy
    assert "exited with status" in health.reason


@pytest.mark.docker
@pytest.mark.registry
@pytest.mark.parametrize(("meddle", "reason"), [("restart", "stopped and started"), ("remove", "was removed")])
def test_a_container_somebody_meddles_with_has_failed(
    engine: docker.APIClient, start: Callable[[BotVersion], str], meddle: str, reason: str
) -> None:
    container = start(UNHEALTHY)
    rounds = iter(range(1000))

    def meanwhile() -> None:
        if next(rounds) != 1:
            return
        if meddle == "restart":
            engine.restart(container, timeout=0)
        else:
            engine.remove_container(container, force=True, v=True)

    health = wait(engine, container, meanwhile, timeout=100_000)

    assert not health.healthy
    assert reason in health.reason


@pytest.mark.docker
@pytest.mark.registry
def test_one_good_answer_is_not_enough(
    engine: docker.APIClient, start: Callable[[BotVersion], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bool] = []

    def every_other(address: str, path: str) -> Any:
        found = probe(address, path)
        answers.append(found.ok)
        return found if len(answers) % 2 else type(found)(ok=False, detail="hiccup")

    container = start(FIRST)
    assert wait(engine, container).healthy
    monkeypatch.setattr("daemon.engine.health_probe.probe", every_other)
    health = wait(engine, container, timeout=4)

    assert answers.count(True) > 2
    assert not health.healthy


@pytest.mark.docker
@pytest.mark.registry
def test_losing_the_bot_ends_the_wait(engine: docker.APIClient, start: Callable[[BotVersion], str]) -> None:
    def lost() -> None:
        raise PermissionError("somebody else has the bot")

    with pytest.raises(PermissionError):
        wait(engine, start(FIRST), lost)
