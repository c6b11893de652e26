"""The address at which a bot's container is reached. Used by the health check, the node probe and adoption."""

from __future__ import annotations

from typing import Any

from portal.models import Node


def read_address(inspect: dict[str, Any], node: Node, port: int) -> str | None:
    """Return the address at which this machine reaches a running container.

    This is the published port at the node's `bot_host`; for a container in the host's network the port itself; else,
    when the engine runs on this machine, the container's address in its primary network. Read it again after every
    start, because automatically assigned ports and addresses change.

    Returns:
        `host:port`, or None when the port cannot be reached.
    """
    host = f"[{node.bot_host}]" if ":" in node.bot_host else node.bot_host
    published = (inspect["NetworkSettings"].get("Ports") or {}).get(f"{port}/tcp")
    if published:
        return f"{host}:{published[0]['HostPort']}"
    primary = inspect["HostConfig"]["NetworkMode"]
    if primary == "host":
        return f"{host}:{port}" if inspect["State"]["Running"] else None
    if not node.docker_url.startswith("unix:"):
        return None
    networks = inspect["NetworkSettings"].get("Networks") or {}
    network = networks.get("bridge" if primary == "default" else primary) or {}
    ip_address = network.get("IPAddress")
    return f"{ip_address}:{port}" if ip_address else None
