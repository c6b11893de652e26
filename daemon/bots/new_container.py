"""The container of a new bot: its configuration, and the address on which its port is published. Used by `create`."""

from __future__ import annotations

import socket
from typing import Any

import docker
from docker.errors import NotFound

from daemon.engine import containers
from daemon.engine.bot_environment import bot_environment
from daemon.engine.labels import (
    BOT_LABEL,
    CREATION_LABEL,
    INSTALL_LABEL,
    bot_container_name,
    bot_volume_name,
)
from daemon.errors import OperationFailed
from daemon.network.addresses import Network, network_of
from portal.services.bots.creation_progress import Attempt

_MEGABYTE = 1024 * 1024
_NANO_PER_MILLI = 1_000_000
_RESTART_POLICY = {"Name": "unless-stopped", "MaximumRetryCount": 0}
_EXPOSED = (Network.PUBLIC, Network.METADATA)


class CreationFailed(OperationFailed):
    """The container of a new bot could not be created, or did not become healthy."""


def find(engine: docker.APIClient, attempt: Attempt) -> dict[str, Any] | None:
    """Return the description of the container that an earlier attempt created, or None.

    Raises:
        CreationFailed: another program or installation created a container with this name.
    """
    name = bot_container_name(attempt.bot.id)
    found = containers.inspect(engine, name)
    if found is None:
        return None
    labels = found["Config"]["Labels"] or {}
    if (labels.get(INSTALL_LABEL), labels.get(BOT_LABEL)) != (attempt.install_id, attempt.bot.id):
        raise CreationFailed(f"The node has a container {name} that Flotilla did not create. Remove or rename it.")
    return found


def is_current(found: dict[str, Any], attempt: Attempt) -> bool:
    """Return whether a container was created with the current settings of the bot and runs the release to run."""
    created_with = (found["Config"]["Labels"].get(CREATION_LABEL), found["Config"]["Image"])
    return created_with == (attempt.container.creation_id, attempt.image)


def create_volumes(engine: docker.APIClient, attempt: Attempt) -> list[str]:
    """Create the volumes that do not exist yet, and return their names."""
    created = []
    for number in range(1, len(attempt.container.volumes) + 1):
        name = bot_volume_name(attempt.bot.id, number)
        try:
            engine.inspect_volume(name)
        except NotFound:
            engine.create_volume(name, labels=_labels(attempt))
            created.append(name)
    return created


def build_config(attempt: Attempt, host_ip: str) -> dict[str, Any]:
    """Build the configuration of the container: few rights, limits, volumes, and one published port.

    Args:
        attempt: the attempt.
        host_ip: address of the node at which the port is published.
    """
    bot, settings = attempt.bot, attempt.container
    variables = settings.environment | bot_environment(bot)
    port = f"{bot.port}/tcp"
    return {
        "Image": attempt.image,
        "Env": [f"{name}={value}" for name, value in variables.items() if value is not None],
        "Labels": _labels(attempt) | {CREATION_LABEL: settings.creation_id},
        "ExposedPorts": {port: {}},
        "HostConfig": {
            "PortBindings": {port: [{"HostIp": host_ip, "HostPort": str(bot.host_port)}]},
            "Mounts": _build_mounts(attempt),
            "RestartPolicy": _RESTART_POLICY,
            "Memory": (settings.memory_mb or 0) * _MEGABYTE,
            "NanoCpus": (settings.cpu_millis or 0) * _NANO_PER_MILLI,
            "PidsLimit": settings.pids_limit,
            "CapDrop": ["ALL"],
            "CapAdd": settings.capabilities,
            "SecurityOpt": ["no-new-privileges"],
        },
    }


def resolve_host_ip(bot_host: str) -> str:
    """Return the address of the node at which the ports of its bots are published.

    Raises:
        CreationFailed: the name cannot be resolved, or it belongs to the internet, where anyone could reach the bot
            past the gateway.
    """
    try:
        found = socket.getaddrinfo(bot_host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CreationFailed(
            f"The host {bot_host} of the node cannot be resolved: {reason}.", transient=True
        ) from error
    address = str(found[0][4][0])
    if network_of(address) in _EXPOSED:
        raise CreationFailed(
            f"The host {bot_host} of the node has the public address {address}, where bots would be reachable without"
            " the gateway. Add the node with a private address as --bot-host."
        )
    return address


def _labels(attempt: Attempt) -> dict[str, str]:
    return {INSTALL_LABEL: attempt.install_id, BOT_LABEL: attempt.bot.id}


def _build_mounts(attempt: Attempt) -> list[dict[str, Any]]:
    return [
        {"Type": "volume", "Source": bot_volume_name(attempt.bot.id, number), "Target": path}
        for number, path in enumerate(attempt.container.volumes, start=1)
    ]
