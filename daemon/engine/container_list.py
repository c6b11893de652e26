"""The containers that run on an engine, listed with one call. Used by the node probe.

A list costs the engine and the worker far less than a call for each container.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

import docker

logger = logging.getLogger(__name__)


def list_running(engine: docker.APIClient) -> dict[str, dict[str, Any]]:
    """Return the containers that run, by id, with their state, ports, network mode and networks.

    Each has the form of a description by `inspect_container`, of which it contains a part. Containers that are paused
    or restarting are left out. So are all containers if the engine cannot list them. The caller inspects the others.
    """
    try:
        listed = engine.containers()
        return {str(each["Id"]): _describe(each) for each in listed if each["State"] == "running"}
    except Exception as error:  # noqa: BLE001 - an engine may answer anything
        logger.warning("the containers of an engine cannot be listed: %s", type(error).__name__)
        return {}


def _describe(listed: dict[str, Any]) -> dict[str, Any]:
    ports: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    # The list has each port once for IPv4 and once for IPv6; in a description, that of IPv4 comes first.
    for port in sorted(listed["Ports"], key=lambda port: ":" in port.get("IP", "")):
        if "PublicPort" in port:
            ports[f"{port['PrivatePort']}/{port['Type']}"].append({"HostPort": str(port["PublicPort"])})
    return {
        "State": {"Running": True},
        "HostConfig": {"NetworkMode": listed["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Ports": dict(ports), "Networks": listed["NetworkSettings"]["Networks"]},
    }
