"""The configured networks of a container, without addresses assigned at runtime. Used to recreate containers."""

from typing import Any

# Configured fields of an endpoint; all others are addresses and ids assigned at runtime.
_CONFIGURED = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority")
_SHORT_ID = 12
_WITHOUT_ENDPOINTS = ("host", "none")


def short_id(container: dict[str, Any]) -> str:
    """Return the short id of a container, which the engine uses as its host name and network alias."""
    return str(container["Id"])[:_SHORT_ID]


def primary_network(container: dict[str, Any]) -> str:
    """Return the network to create a container with, or its network mode when it joins no network.

    This is the network named by its network mode, or its first network when the container has left that one.
    """
    mode = str(container["HostConfig"]["NetworkMode"])
    if mode == "default":
        mode = "bridge"
    networks = container["NetworkSettings"]["Networks"]
    if mode in networks or mode in _WITHOUT_ENDPOINTS or mode.startswith("container:"):
        return mode
    # The mode may be the id of the network, but networks are listed by name.
    by_id = [name for name, endpoint in networks.items() if (endpoint.get("NetworkID") or "").startswith(mode)]
    return min(by_id or networks, default="none")


def endpoints(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the configured endpoint of each network, by name; empty for a container that joins none.

    Assigned addresses, ids and generated MAC addresses are left out, and so are the short id and the host name,
    which the engine adds to the aliases.
    """
    mode = primary_network(container)
    if mode in _WITHOUT_ENDPOINTS or mode.startswith("container:"):
        return {}
    own_names = {short_id(container), container["Config"].get("Hostname")}
    found = {
        name: _configured(endpoint, own_names) for name, endpoint in container["NetworkSettings"]["Networks"].items()
    }
    if address := container["Config"].get("MacAddress"):
        # Engines since API 1.44 read the address from the endpoint, older ones from the container's setting.
        found[mode]["MacAddress"] = address
    return found


def _configured(endpoint: dict[str, Any], own_names: set[str | None]) -> dict[str, Any]:
    configured = {key: endpoint[key] for key in _CONFIGURED if endpoint.get(key)}
    aliases = set(configured.pop("Aliases", [])) - own_names
    return configured | ({"Aliases": sorted(aliases)} if aliases else {})
