"""The containers of an engine that only pretends: create, start, stop, rename, list. Used by `fake_engine`.

The containers look like those of a real engine, but nothing runs in them. Bots answer health checks after a moment,
and the helpers of snapshots print what their scripts would print.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from demo.bench.rollout.fake_descriptions import describe

STOP_SECONDS = 0.1
BOOT_SECONDS = 0.3
HELPER_SECONDS = 0.1
"""How long a helper takes for each part of its task."""
_COUNT_OF_VOLUMES = 5
"""Position of the number of volumes in the command of a helper for snapshots."""


class Refused(Exception):
    """The engine refuses a call with this status."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Container:
    """A container: its description, and what it has printed."""

    description: dict[str, Any]
    lines: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.description["Id"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.description["Name"]).removeprefix("/")

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return bool(self.description["State"]["Running"])

    @property
    def health_path(self) -> str:
        """The path of its health check, which is different for each bot; empty for a helper."""
        return str(self.description["Config"]["Labels"].get("bench.health", ""))

    def mounts(self, volume: str) -> bool:
        """Return whether it mounts a volume."""
        return any(mount["Name"] == volume for mount in self.description["Mounts"])

    def summarize(self) -> dict[str, Any]:
        """Describe it as in the engine's list of containers."""
        description = self.description
        ports = description["NetworkSettings"]["Ports"]
        return {
            "Id": self.id,
            "Names": [description["Name"]],
            "Image": description["Config"]["Image"],
            "ImageID": description["Image"],
            "Command": "/app/server",
            "Created": int(datetime.now(UTC).timestamp()),
            "Ports": [
                {
                    "IP": found["HostIp"],
                    "PrivatePort": int(port.partition("/")[0]),
                    "PublicPort": int(found["HostPort"]),
                    "Type": "tcp",
                }
                for port, bindings in ports.items()
                for found in bindings
            ],
            "Labels": description["Config"]["Labels"],
            "State": description["State"]["Status"],
            "Status": "Up 5 minutes" if self.is_running else "Exited (0) 5 minutes ago",
            "HostConfig": {"NetworkMode": description["HostConfig"]["NetworkMode"]},
            "NetworkSettings": {"Networks": description["NetworkSettings"]["Networks"]},
            "Mounts": description["Mounts"],
        }


class Containers:
    """The containers of one engine.

    Args:
        answering: the ids of the containers that answer health checks, by the paths of the health checks.
    """

    def __init__(self, answering: dict[str, str]) -> None:
        self._answering = answering
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, Container] = {}
        self._by_label: dict[str, dict[str, Container]] = {}

    def find(self, key: str) -> Container:
        """Return a container, given its id or name."""
        container = self._by_id.get(key) or self._by_name.get(key)
        if container is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"No such container: {key}")
        return container

    def select(self, filters: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        """List containers with these labels and volumes."""
        labels = filters.get("label", [])
        found = list(self._by_label.get(labels[0], {}).values() if labels else self._by_id.values())
        return [
            one.summarize()
            for one in found
            if all(one.id in self._by_label.get(label, {}) for label in labels)
            and all(one.mounts(volume) for volume in filters.get("volume", []))
        ]

    def create(self, name: str, wanted: dict[str, Any], container_id: str | None = None) -> Container:
        """Create a container from the body of a call."""
        if name in self._by_name:
            raise Refused(HTTPStatus.CONFLICT, f'The container name "/{name}" is already in use')
        container = Container(describe(container_id or secrets.token_hex(32), name, wanted))
        self._by_id[container.id] = self._by_name[name] = container
        for label, value in container.description["Config"]["Labels"].items():
            self._by_label.setdefault(f"{label}={value}", {})[container.id] = container
        return container

    def start(self, container: Container, boot_seconds: float = BOOT_SECONDS) -> None:
        """Start a container. A bot answers after it has booted; a helper begins its task."""
        if container.is_running:
            return
        now = datetime.now(UTC).isoformat()
        container.description["State"].update(Status="running", Running=True, StartedAt=now, Pid=4242)
        if container.health_path:
            _later(boot_seconds, lambda: self._answering.update({container.health_path: container.id}))
        elif "-snapshots-" in container.name:
            self._print_later(container, {"size": 1_000_000, "apparent_size": 1_000_000, "free": 10**12})
        else:
            self._print_later(container, {"free": 10**12}, ends=True)

    def signal(self, container: Container, name: str) -> None:
        """Send a signal. It ends a bot, and lets a helper continue."""
        if not container.is_running:
            raise Refused(HTTPStatus.CONFLICT, f"Container {container.id} is not running")
        if name == "SIGUSR1":
            self._print_later(container, {"bases": 1})
        elif name == "SIGUSR2":
            volumes = int(container.description["Config"]["Cmd"][_COUNT_OF_VOLUMES])
            archives = [{"sum": "ab" * 32, "size": 1_000_000, "entries": 100}] * volumes
            self._print_later(container, archives, ends=True)
        else:
            _later(STOP_SECONDS, lambda: self._stop(container))

    def rename(self, container: Container, name: str) -> None:
        """Rename a container."""
        if name in self._by_name:
            raise Refused(HTTPStatus.CONFLICT, f'The container name "/{name}" is already in use')
        del self._by_name[container.name]
        container.description["Name"] = f"/{name}"
        self._by_name[name] = container

    def remove(self, container: Container, *, force: bool) -> None:
        """Remove a container."""
        if container.is_running and not force:
            raise Refused(HTTPStatus.CONFLICT, "stop the container before removing it")
        self._stop(container)
        del self._by_name[container.name]
        del self._by_id[container.id]
        for label, value in container.description["Config"]["Labels"].items():
            del self._by_label[f"{label}={value}"][container.id]

    def _print_later(self, container: Container, content: object, *, ends: bool = False) -> None:
        def print_line() -> None:
            container.lines.append(json.dumps(content))
            if ends:
                self._stop(container)

        _later(HELPER_SECONDS, print_line)

    def _stop(self, container: Container) -> None:
        container.description["State"].update(Status="exited", Running=False, ExitCode=0, Pid=0)
        if self._answering.get(container.health_path) == container.id:
            del self._answering[container.health_path]


def _later(seconds: float, action: Callable[[], object]) -> None:
    if seconds:
        asyncio.get_running_loop().call_later(seconds, action)
    else:
        action()
