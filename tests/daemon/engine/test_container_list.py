"""The list of containers that run: it yields the same addresses as descriptions of single containers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from daemon.engine.addresses import read_address
from daemon.engine.container_list import list_running
from portal.models import Node

LISTED = {
    "Id": "bot",
    "State": "running",
    "Ports": [
        {"PrivatePort": 9000, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 3100, "PublicPort": 20002, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 3100, "PublicPort": 20001, "Type": "tcp"},
    ],
    "HostConfig": {"NetworkMode": "default"},
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.5"}}},
}
NODE = Node(name="north", docker_url="unix:///nowhere", bot_host="127.0.0.1")


def list_with(*listed: Any) -> dict[str, dict[str, Any]]:
    """Return what an engine with this list runs."""
    return list_running(SimpleNamespace(containers=lambda: list(listed)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("port", "address"), [(3100, "127.0.0.1:20001"), (9000, "172.17.0.5:9000")])
def test_addresses_are_read_from_the_list(port: int, address: str) -> None:
    assert read_address(list_with(LISTED)["bot"], NODE, port) == address


def test_containers_in_another_state_are_left_out() -> None:
    others = [{**LISTED, "Id": state, "State": state} for state in ("paused", "restarting", "exited")]
    assert list_with(LISTED, *others).keys() == {"bot"}


@pytest.mark.parametrize("listed", [{}, {**LISTED, "Ports": None}, [], None])
def test_a_malformed_list_leaves_all_containers_out(listed: Any) -> None:
    assert list_with(LISTED, listed) == {}
