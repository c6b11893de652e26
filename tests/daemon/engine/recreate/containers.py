"""Containers of one test: create, replace, inspect, remove."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import docker
from docker.errors import NotFound

from daemon.engine.recreate.capture import capture
from daemon.engine.recreate.creation import Plan, create, plan_replacement
from tests.daemon.engine.recreate.full_container import Resources, full_config


class Containers:
    """The containers of one test, on one engine."""

    def __init__(self, engine: docker.APIClient) -> None:
        """Create them on `engine`."""
        self._engine = engine
        self._created: list[str] = []

    def add(self, config: dict[str, Any]) -> str:
        """Create a container from the engine's full description and return its id."""
        return self.create(Plan(config, []))

    def create(self, plan: Plan) -> str:
        """Create a planned container and return its id."""
        container = create(self._engine, plan, f"flotilla-test-{uuid4().hex[:8]}")
        self._created.append(container)
        return container

    def add_full_container(self, image: str, resources: Resources) -> str:
        """Start a container with every setting and return its id."""
        container = self.add(full_config(image, resources))
        self._engine.connect_container_to_network(container, resources.secondary, aliases=["second"])
        self._engine.start(container)
        return container

    def replace(self, container: str, image: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Capture a container and create its replacement. Return the capture and the inspected replacement."""
        saved = capture(self._engine, container)
        replacement = self.create(plan_replacement(saved, image, labels={}))
        return saved, self.inspect(replacement)

    def inspect(self, container: str) -> dict[str, Any]:
        """Return the engine's description of a container."""
        found: dict[str, Any] = self._engine.inspect_container(container)
        return found

    def remove(self) -> None:
        """Remove all containers and their anonymous volumes, including those attached by name."""
        for container in reversed(self._created):
            try:
                volumes = [mount["Name"] for mount in self.inspect(container)["Mounts"] if mount["Type"] == "volume"]
                self._engine.remove_container(container, v=True, force=True)
            except NotFound:
                continue
            for volume in volumes:
                self._remove_if_anonymous(volume)

    def _remove_if_anonymous(self, volume: str) -> None:
        still_used = self._engine.containers(all=True, filters={"volume": volume})
        if len(volume) == 64 and not still_used:  # a generated name has 64 characters
            with suppress(NotFound):
                self._engine.remove_volume(volume)
