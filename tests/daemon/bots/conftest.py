"""Fixtures for tests that adopt and attach containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from daemon.snapshots import helper_containers
from demo.versions import FIRST
from portal.models import Org, OrgState, new_id, utcnow
from portal.services.bots import nodes
from portal.services.bots.nodes import NodeSpec
from portal.services.orgs import creation
from tests import factories
from tests.daemon.bots.adoption import Start
from tests.support.site import Site


@pytest.fixture
def empty_node(empty_site: Site, docker_url: str) -> Site:
    """The node `here` without bots, and the organizations `acme` (active) and `leaving` (being deleted)."""
    with empty_site.database.transaction() as session:
        owner = factories.user(session)
        creation.create_org(session, "Acme", owner, now=utcnow())
        session.add(Org(slug="leaving", name="Leaving", owner_id=owner.id, state=OrgState.DELETING))
        nodes.add_node(session, NodeSpec(name="here", docker_url=docker_url, snapshot_dir="/var/lib/flotilla"))
    return empty_site


@pytest.fixture
def start(empty_node: Site) -> Iterator[Start]:
    """Return a function that starts a container by hand and returns its id."""
    started: list[str] = []

    def start(
        image: str | None = None, *, running: bool = True, host: dict[str, Any] | None = None, **config: Any
    ) -> str:
        empty_node.images.digest(FIRST)
        options = {"port_bindings": {3100: ("127.0.0.1", None)}} if host is None else host
        container = empty_node.engine.create_container(
            image or f"{empty_node.images.repository}:{FIRST.version}",
            name=f"Acme_Desk.{new_id()}",
            labels=dict(empty_node.labels),
            host_config=empty_node.engine.create_host_config(**options),
            **config,
        )["Id"]
        started.append(container)
        if running:
            empty_node.engine.start(container)
        return str(container)

    yield start
    for container in started:
        helper_containers.remove_helper(empty_node.engine, container)
