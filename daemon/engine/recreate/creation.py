"""Plans and creates the container that takes another one's place, keeping everything that was set by hand."""

from dataclasses import dataclass
from typing import Any

import docker

from daemon.engine.client import connect_network
from daemon.engine.containers import NO_RESTART
from daemon.engine.recreate.capture import replace_ids_with_names, shared_container
from daemon.engine.recreate.inherited import subtract_image_config
from daemon.engine.recreate.mounts import reattach_volumes
from daemon.engine.recreate.networks import endpoints, primary_network, short_id

# What an engine refuses to a container that shares another one's network.
_NETWORK_SETTINGS = ("Hostname", "Domainname", "MacAddress", "ExposedPorts")
_NETWORK_HOST_SETTINGS = ("PortBindings", "PublishAllPorts", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "Links")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to create a container.

    Attributes:
        config: the engine's full description, with the primary network.
        networks: the other networks with their endpoints, connected before the start because engines before API
            1.44 take one network at create.
    """

    config: dict[str, Any]
    networks: list[tuple[str, dict[str, Any]]]


def plan_replacement(saved: dict[str, Any], image: str, labels: dict[str, str]) -> Plan:
    """Plan the container that takes the place of a captured one.

    It is planned with the restart policy `no`: whoever proves it healthy gives it the old one's policy.

    Args:
        saved: what `capture` returned.
        image: `repository@digest` to run, never a tag, which may move.
        labels: labels to overwrite.
    """
    container = saved["container"]
    networks = endpoints(container)
    primary = primary_network(container)
    config = subtract_image_config(container["Config"], saved["image"].get("Config"))
    config["Image"] = image
    config["Labels"] |= labels
    config["ExposedPorts"] |= {port: {} for port in container["HostConfig"].get("PortBindings") or {}}
    if config.get("Hostname") == short_id(container) or container["HostConfig"].get("UTSMode") == "host":
        config.pop("Hostname", None)  # generated, or the node's own
    config["HostConfig"] = _host_config(saved)
    if shared_container(primary):
        _drop_network_settings(config)
    config["NetworkingConfig"] = {"EndpointsConfig": {primary: networks.pop(primary)} if networks else {}}
    return Plan(config, sorted(networks.items()))


def plan_original(saved: dict[str, Any], image: str) -> Plan:
    """Plan the captured container itself once more, for when somebody removed it.

    Args:
        saved: what `capture` returned.
        image: a reference or id of the very image it ran on.
    """
    return plan_replacement(saved, image, labels={})


def create(engine: docker.APIClient, plan: Plan, name: str) -> str:
    """Create the planned container, connected to its networks and not started, and return its id.

    Nothing is left behind when it fails.

    Raises:
        APIError: the engine refused.
    """
    container = str(engine.create_container_from_config(plan.config, name)["Id"])  # type: ignore[no-untyped-call]
    try:
        for network, endpoint in plan.networks:
            connect_network(engine, container, network, endpoint)
    except BaseException:
        engine.remove_container(container, v=True, force=True)
        raise
    return container


def _host_config(saved: dict[str, Any]) -> dict[str, Any]:
    container = saved["container"]
    host_config = replace_ids_with_names(container["HostConfig"], saved["container_names"]) | reattach_volumes(
        container
    )
    host_config["RestartPolicy"] = NO_RESTART
    host_config.pop("ContainerIDFile", None)
    primary = primary_network(container)
    if shared_container(primary) is None and primary != "bridge":  # which older clients call "default"
        host_config["NetworkMode"] = primary
    return host_config


def _drop_network_settings(config: dict[str, Any]) -> None:
    for key in _NETWORK_SETTINGS:
        config.pop(key, None)
    for key in _NETWORK_HOST_SETTINGS:
        config["HostConfig"].pop(key, None)
