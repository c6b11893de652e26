"""The lab on a Docker engine: bots in containers without access to other networks. Used by `flotilla conformance`."""

from __future__ import annotations

import signal
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import docker
from docker.errors import APIError
from docker.types import LogConfig

from daemon.conformance.lab import Stopped
from daemon.conformance.options import BotOptions
from daemon.conformance.sandbox_cleanup import create_labels, remove_leftovers, remove_run
from daemon.engine import containers
from daemon.engine.addresses import read_address
from daemon.engine.client import limit_stream
from daemon.errors import OperationFailed
from daemon.registry.changelog_reader import read_changelog
from portal.models import Node

MEMORY_BYTES = 2 * 1024**3
NANO_CPUS = 2 * 10**9
PIDS_LIMIT = 512
MAX_COPY_BYTES = 1024**3
"""Largest volume that is copied for the upgrade, because a bot with a few members needs little space."""

_COPY_SECONDS = 300.0
_SCRATCH_PATHS = ("/tmp", "/run", "/var/run")  # noqa: S108 - paths in the container
_SIGNALS = {member.name: member.value for member in signal.Signals}


class CannotStart(OperationFailed):
    """The engine cannot create or start a container of the image."""


class SandboxedBot:
    """A bot in a container."""

    def __init__(self, engine: docker.APIClient, node: Node, container: str, options: BotOptions) -> None:
        """Use the container with this id."""
        self._engine = engine
        self._node = node
        self._container = container
        self._options = options

    def address(self) -> str | None:
        """Return `host:port`, or None while the container has no address."""
        return read_address(self._inspect(), self._node, self._options.port)

    def problem(self) -> str | None:
        """Say why the container does not run, or None while it runs."""
        state = self._inspect()["State"]
        if state["Running"]:
            return None
        if state.get("OOMKilled"):
            return f"The container ran out of memory ({MEMORY_BYTES // 1024**2} MB)."
        return f"The container exited with status {state['ExitCode']}."

    def log_tail(self) -> str:
        """Return the last lines of its output."""
        return containers.log_tail(self._engine, self._container) or ""

    def changed_paths(self) -> Sequence[str]:
        """Return the paths that were written outside of volumes, /tmp and /run."""
        changes: list[dict[str, Any]] = self._engine.diff(self._container) or []
        return find_written_paths([change["Path"] for change in changes], self._options.volumes)

    def stop(self) -> Stopped:
        """Send the stop signal, wait for the grace period, then kill."""
        name = self._inspect()["Config"].get("StopSignal") or "SIGTERM"
        number = int(name) if name.isdecimal() else _SIGNALS.get(f"SIG{name.removeprefix('SIG')}", signal.SIGTERM)
        containers.stop(self._engine, self._container, lambda: None)
        exit_code = int(self._inspect()["State"]["ExitCode"])
        killed = exit_code == 128 + signal.SIGKILL and number != signal.SIGKILL
        return Stopped(exit_code, number, killed)

    def kill(self) -> None:
        """Kill the container and remove it; its volumes stay."""
        containers.remove(self._engine, self._container, with_anonymous_volumes=True, force=True)

    def _inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = self._engine.inspect_container(self._container)
        return found


class Sandbox:
    """A network, volumes and containers with the labels of one run. `open_sandbox` removes them at the end."""

    def __init__(self, engine: docker.APIClient, node: Node, options: BotOptions, labels: Mapping[str, str]) -> None:
        """Create the network.

        Args:
            engine: the engine.
            node: the engine as a node, for addresses.
            options: settings of the image.
            labels: labels of everything that is created.
        """
        self._engine = engine
        self._node = node
        self._options = options
        self._labels = dict(labels)
        self._prefix = f"flotilla-conformance-{uuid.uuid4().hex[:12]}"
        # The engine lets nothing pass between an internal network and others, except from its own machine.
        engine.create_network(self._prefix, driver="bridge", internal=True, labels=self._labels)

    def create_volumes(self) -> str:
        """Create empty volumes for a bot, and return the prefix of their names."""
        prefix = f"{self._prefix}-{uuid.uuid4().hex[:8]}"
        for name in self._names(prefix).values():
            self._engine.create_volume(name, labels=self._labels)
        return prefix

    def copy_volumes(self, volumes: str, image: str) -> str:
        """Copy the volumes of a stopped bot of an image, and return the prefix of the copies' names."""
        copies = self.create_volumes()
        source, target = self._create(image, volumes, {}), self._create(image, copies, {})
        try:
            for path in self._options.volumes:
                with tempfile.TemporaryFile() as archive:
                    self._download(source, path, archive)
                    archive.seek(0)
                    parent = path.rpartition("/")[0] or "/"
                    self._engine.put_archive(target, parent, archive)
        finally:
            for container in (source, target):
                containers.remove(self._engine, container, with_anonymous_volumes=True, force=True)
        return copies

    def start(self, image: str, volumes: str, environment: Mapping[str, str]) -> SandboxedBot:
        """Start a bot on volumes that no other bot uses.

        Raises:
            CannotStart: the engine refused to create or start the container.
        """
        try:
            container = self._create(image, volumes, environment)
            containers.start(self._engine, container)
        except APIError as error:
            raise CannotStart(f"{image} cannot be started: {error.explanation or error}") from error
        return SandboxedBot(self._engine, self._node, container, self._options)

    def read_changelog(self, image: str) -> dict[str, Any] | None:
        """Return the parsed changelog of an image, or None without one."""
        return read_changelog(self._engine, image, self._labels)

    def list_declared_volumes(self, image: str) -> Sequence[str]:
        """Return the paths that an image declares as volumes."""
        found: dict[str, Any] = self._engine.inspect_image(image)  # type: ignore[no-untyped-call]
        return sorted(found["Config"].get("Volumes") or {})

    def _create(self, image: str, volumes: str, environment: Mapping[str, str]) -> str:
        container = self._engine.create_container(
            image,
            name=f"{self._prefix}-{uuid.uuid4().hex[:8]}",
            environment=dict(environment),
            labels=self._labels,
            host_config=self._engine.create_host_config(
                binds=[f"{name}:{path}" for path, name in self._names(volumes).items()],
                network_mode=self._prefix,
                mem_limit=MEMORY_BYTES,
                memswap_limit=MEMORY_BYTES,
                nano_cpus=NANO_CPUS,
                pids_limit=PIDS_LIMIT,
                cap_drop=["ALL"],
                cap_add=list(self._options.capabilities),
                security_opt=["no-new-privileges"],
                log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "1"}),
            ),
        )
        return str(container["Id"])

    def _names(self, volumes: str) -> dict[str, str]:
        return {path: f"{volumes}-{number}" for number, path in enumerate(self._options.volumes)}

    def _download(self, container: str, path: str, archive: IO[bytes]) -> None:
        with limit_stream(_COPY_SECONDS, f"the copy of {path}"):
            chunks, _ = self._engine.get_archive(container, path)
            for chunk in chunks:
                archive.write(chunk)
                if archive.tell() > MAX_COPY_BYTES:
                    raise OperationFailed(f"The volume {path} has more than {MAX_COPY_BYTES // 1024**3} GB.")


@contextmanager
def open_sandbox(engine: docker.APIClient, node: Node, options: BotOptions) -> Iterator[Sandbox]:
    """Open a sandbox, and remove everything in it at the end. Leftovers of killed runs are removed first.

    Args:
        engine: an engine on this machine.
        node: the engine as a node, for addresses.
        options: settings of the image.
    """
    remove_leftovers(engine)
    run = uuid.uuid4().hex
    try:
        yield Sandbox(engine, node, options, create_labels(run))
    finally:
        remove_run(engine, run)


def find_written_paths(changed: Sequence[str], volumes: Sequence[str]) -> list[str]:
    """Return the changed paths that are neither scratch, nor in a volume, nor only the parent of another path.

    A folder counts as changed when an entry in it changed, so its entries tell what was written. The engine itself
    creates mount points.

    Args:
        changed: all changed paths of a container.
        volumes: paths of its volumes.
    """
    allowed = (*volumes, *_SCRATCH_PATHS)
    written = [path for path in changed if not any(path == top or path.startswith(f"{top}/") for top in allowed)]
    parents = {parent for path in (*changed, *allowed) for parent in _list_parents(path)}
    return sorted(path for path in written if path not in parents)


def _list_parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
