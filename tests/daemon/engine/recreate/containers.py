"""Makes containers for one test."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import docker
from docker.errors import NotFound

from daemon.engine.recreate.capture import capture
from daemon.engine.recreate.creation import Plan, create, plan_replacement
from tests.daemon.engine.recreate.everything import Surroundings, everything


class Containers:
    """The containers of one test, on one engine."""

    def __init__(self, engine: docker.APIClient) -> None:
        """Make them on `engine`."""
        self._engine = engine
        self._made: list[str] = []

    def add(self, config: dict[str, Any]) -> str:
        """Create a container from the engine's full description and return its id."""
        return self.follow(Plan(config, []))

    def follow(self, plan: Plan) -> str:
        """Create what was planned and return its id."""
        container = create(self._engine, plan, f"flotilla-test-{uuid4().hex[:8]}")
        self._made.append(container)
        return container

    def add_everything(self, image: str, around: Surroundings) -> str:
        """Start a container on which everything is set and return its id."""
        container = self.add(everything(image, around))
        self._engine.connect_container_to_network(container, around.secondary, aliases=["second"])
        self._engine.start(container)
        return container

    def replace(self, container: str, image: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Capture a container, create its replacement, and return what was saved and how the new one looks."""
        saved = capture(self._engine, container)
        replacement = self.follow(plan_replacement(saved, image, labels={}))
        return saved, self.inspect(replacement)

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what the engine says of a container."""
        found: dict[str, Any] = self._engine.inspect_container(container)
        return found

    def remove(self) -> None:
        """Remove all of them with their anonymous volumes, those attached by name included."""
        for container in reversed(self._made):
            try:
                volumes = [mount["Name"] for mount in self.inspect(container)["Mounts"] if mount["Type"] == "volume"]
                self._engine.remove_container(container, v=True, force=True)
            except NotFound:
                continue
            for volume in volumes:
                self._remove_made_up(volume)

    def _remove_made_up(self, volume: str) -> None:
        still_used = self._engine.containers(all=True, filters={"volume": volume})
        if len(volume) == 64 and not still_used:  # the names that the engine makes up
            with suppress(NotFound):
                self._engine.remove_volume(volume)
