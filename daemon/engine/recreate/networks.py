"""The networks of a container, as it was configured rather than as it happens to run."""

from typing import Any

# What an endpoint was asked to be; everything else in its description is an address or id of the moment.
_CONFIGURED = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority")
_SHORT_ID = 12
_WITHOUT_ENDPOINTS = ("host", "none")


def short_id(container: dict[str, Any]) -> str:
    """Return the short id, which the engine uses as host name and as an alias in every network."""
    return str(container["Id"])[:_SHORT_ID]


def primary_network(container: dict[str, Any]) -> str:
    """Return the name of the network to create the container with, or the mode when it has no network of its own.

    It is the network of its network mode, or the first one when the container has left that since.
    """
    mode = str(container["HostConfig"]["NetworkMode"])
    if mode == "default":
        mode = "bridge"
    networks = container["NetworkSettings"]["Networks"]
    if mode in networks or mode in _WITHOUT_ENDPOINTS or mode.startswith("container:"):
        return mode
    # The mode may be the network's id; the networks are listed by name.
    by_id = [name for name, endpoint in networks.items() if (endpoint.get("NetworkID") or "").startswith(mode)]
    return min(by_id or networks, default="none")


def endpoints(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was configured of each network, by name; nothing for a container without networks of its own.

    Addresses it was merely given, ids and generated MAC addresses stay out, and so do its short id and its host
    name, which the engine adds to the aliases.
    """
    mode = primary_network(container)
    if mode in _WITHOUT_ENDPOINTS or mode.startswith("container:"):
        return {}
    own_names = {short_id(container), container["Config"].get("Hostname")}
    found = {
        name: _configured(endpoint, own_names) for name, endpoint in container["NetworkSettings"]["Networks"].items()
    }
    if address := container["Config"].get("MacAddress"):
        # Engines since API 1.44 take the address from here, older ones from the container's own setting.
        found[mode]["MacAddress"] = address
    return found


def _configured(endpoint: dict[str, Any], own_names: set[str | None]) -> dict[str, Any]:
    configured = {key: endpoint[key] for key in _CONFIGURED if endpoint.get(key)}
    aliases = set(configured.pop("Aliases", [])) - own_names
    return configured | ({"Aliases": sorted(aliases)} if aliases else {})
