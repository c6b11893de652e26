"""The check of a node by `flotilla doctor`: with a real engine, side by side, and with engines that lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from daemon.bots import leftover_collector
from daemon.engine.labels import INSTALL_LABEL
from daemon.node_check import check_node
from portal.database import Database
from portal.models import Node, new_id
from tests import factories
from tests.daemon.conftest import Flotilla
from tests.daemon.registry.scripted import Reply, Request, scripted_server
from tests.daemon.rows import add_node

CheckEngine = Callable[[Callable[[Request], Reply]], tuple[str, list[str]]]

VERSION = {"ApiVersion": "1.44", "Os": "linux", "Arch": "amd64", "Version": "29.0"}
HONEST: dict[str, Any] = {
    "version": VERSION,
    "containers/json": [],
    "images/any/json": {"Id": "sha256:1"},
    "containers/create": {"Id": "helper"},
    "containers/helper/start": None,
    "containers/helper/json": {"State": {"Status": "exited", "ExitCode": 0}},
    "containers/helper/logs": None,
    "containers/helper": None,
}
"""Answers of an engine, until the log of the helper, by the end of the path."""
ABANDONED = {"Names": ["/flotilla-doctorx-probe"], "Id": "x"}
DEEP = b"[" * 100_000


def without(key: str) -> dict[str, Any]:
    """Return the answer about the version without a key."""
    return {name: value for name, value in VERSION.items() if name != key}


def vary(answer: dict[str, Any], key: str, *values: Any) -> list[dict[str, Any]]:
    """Return an answer once for each value of a key."""
    return [{**answer, key: value} for value in values]


LIES: dict[str, list[Any]] = {
    "version": [
        *([], {}, 7, None, "29", DEEP, b"{", b"\xff\x00", b""),
        *(without(key) for key in ("ApiVersion", "Os", "Arch", "Version")),
        *vary(VERSION, "ApiVersion", 1.44, None, "new", "", "1.44.x", [], "1" * 5000),
        *vary(VERSION, "Os", None, ["linux"], {}, "\0\ud800\u202e"),
    ],
    "containers/json": [
        *({}, 7, None, [1], [None], [[]], [{}], [{"Created": 1}], DEEP),
        [{"Names": [7], "Created": 0, "Id": "x"}],
        *([container] for container in vary(ABANDONED, "Created", "then", 10**30, None)),
    ],
    "images/any/json": [[], 7, None, {}, "image", DEEP],
    "containers/create": [[], 7, None, {}, {"Id": None}, {"Id": ["x"]}],
    "containers/helper/json": [
        *([], 7, None, {}, {"State": 7}, {"State": {}}),
        *({"State": state} for state in vary({"Status": "exited"}, "ExitCode", None, [], "x")),
    ],
    "containers/helper/logs": [b"", b"\xff", b"no frames", b"\x01\0\0\0\0\0\0\x02[]", DEEP],
}
"""Answers that an engine should not give, by the end of the path."""


def answer_with(place: str, lie: Any) -> Any:
    """Return a script for an engine that is honest except at one place."""

    def answer(request: Request) -> Reply:
        path = request.path.partition("?")[0].removeprefix("/v1.44/").removeprefix("/")
        body = lie if path == place else HONEST.get(path)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Reply(200, {"Content-Type": "application/json"}, raw)

    return answer


@pytest.fixture
def check_engine(flotilla: Flotilla, database: Database, monkeypatch: pytest.MonkeyPatch) -> CheckEngine:
    """Return a function that runs `flotilla doctor` with a scripted engine, and returns output and paths."""
    monkeypatch.setenv("SNAPSHOT_IMAGE", "any")

    def check(answer: Callable[[Request], Reply]) -> tuple[str, list[str]]:
        with scripted_server(answer) as server:
            add_node(database, docker_url=f"tcp://{server.address}")
            return flotilla("doctor").output, [request.path for request in server.requests]

    return check


@pytest.mark.parametrize(("place", "lie"), [(place, lie) for place, lies in LIES.items() for lie in lies])
def test_engine_that_lies_is_reported_with_a_sentence(
    check_engine: CheckEngine, caplog: pytest.LogCaptureFixture, place: str, lie: Any
) -> None:
    output, requested = check_engine(answer_with(place, lie))

    assert any(path.partition("?")[0].endswith(f"/{place}") for path in requested), output
    (line,) = [line for line in output.splitlines() if "engine one" in line]
    assert line.startswith("FAILED  engine one: ")
    assert "the check itself failed" not in line
    assert "Traceback" not in output
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("lie", [[], 7, {"Arch": "amd64"}, {"Os": "linux"}, None])
def test_engine_that_lies_is_not_added(flotilla: Flotilla, database: Database, lie: Any) -> None:
    def answer(request: Request) -> Reply:
        # The first request asks for the version of the API.
        body = VERSION if request.path == "/version" else lie
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    with scripted_server(answer) as server:
        options = ("--docker-url", f"tcp://{server.address}", "--snapshot-dir", "/var/lib/snapshots")
        result = flotilla("nodes", "add", "one", *options)

    assert result.exit_code == 1, result.output
    assert "does not have the expected form" in result.output
    with database.reading() as session:
        assert session.query(Node).count() == 0


@dataclass
class RealNode:
    """A node with a real engine, and the id of an installation for the labels of its containers."""

    engine: docker.APIClient
    node: Node
    snapshot_image: str
    install: str

    def check(self) -> str:
        """Check the node."""
        return check_node(self.node, self.snapshot_image, self.install)

    def create(self, name: str) -> str:
        """Create a container of the installation and return its id."""
        labels = {INSTALL_LABEL: self.install}
        return str(self.engine.create_container(self.snapshot_image, ["true"], name=name, labels=labels)["Id"])

    def list_containers(self) -> set[str]:
        """List the ids of the containers of the installation."""
        filters = {"label": f"{INSTALL_LABEL}={self.install}"}
        return {found["Id"] for found in self.engine.containers(all=True, filters=filters)}


@pytest.fixture
def real_node(
    engine: docker.APIClient, docker_url: str, snapshot_image: str, database: Database, tmp_path: Path
) -> RealNode:
    with database.transaction() as session:
        node = factories.node(session, docker_url=docker_url, snapshot_dir=str(tmp_path / "snapshots"))
    return RealNode(engine, node, snapshot_image, new_id())


@pytest.mark.docker
@pytest.mark.registry
@pytest.mark.slow
def test_checks_of_one_engine_run_side_by_side(real_node: RealNode) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: real_node.check(), range(4)))

    assert all("snapshots possible" in result for result in results)
    assert real_node.list_containers() == set()


@pytest.mark.docker
@pytest.mark.registry
@pytest.mark.slow
def test_helper_of_a_killed_check_is_removed_by_the_next(
    real_node: RealNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = real_node.create(f"flotilla-doctor{new_id()}-probe")
    of_an_update = real_node.create(f"flotilla-{new_id()}-probe")
    real_node.check()
    assert left in real_node.list_containers()  # it may belong to a check that is running

    monkeypatch.setattr(leftover_collector, "_SHORT_LIVED_AGE", timedelta(0))
    real_node.check()

    assert real_node.list_containers() == {of_an_update}
    real_node.engine.remove_container(of_an_update)
