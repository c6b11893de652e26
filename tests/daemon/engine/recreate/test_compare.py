"""The comparison names every unexplained difference of a replacement."""

from collections.abc import Callable
from typing import Any

import docker
import pytest

from daemon.engine.recreate.capture import capture
from daemon.engine.recreate.compare import unexplained_differences
from daemon.engine.recreate.creation import Plan, plan_replacement
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.full_container import Resources

pytestmark = pytest.mark.docker

Image = dict[str, Any]
Change = Callable[[Plan], object]


def without(key: str, *, of_host: bool = False) -> Change:
    """Return a change that removes one setting."""

    def change(plan: Plan) -> None:
        settings = plan.config["HostConfig"] if of_host else plan.config
        assert settings.pop(key)

    return change


def host(**settings: Any) -> Change:
    """Return a change of host settings."""
    return lambda plan: plan.config["HostConfig"].update(settings)


def config(**settings: Any) -> Change:
    """Return a change of container settings."""
    return lambda plan: plan.config.update(settings)


def endpoint(plan: Plan) -> dict[str, Any]:
    """Return the endpoint of the primary network."""
    endpoints: dict[str, dict[str, Any]] = plan.config["NetworkingConfig"]["EndpointsConfig"]
    return next(iter(endpoints.values()))


CONFIG = {
    "Env OVERRIDDEN": lambda plan: plan.config["Env"].remove("OVERRIDDEN=operator"),
    "Env EMPTY": lambda plan: plan.config["Env"].remove("EMPTY="),
    "Env SECRET": lambda plan: plan.config["Env"].append("SECRET=hidden-value"),
    "Env FRESH": lambda plan: plan.config["Env"].append("FRESH=old"),
    "Labels added": lambda plan: plan.config["Labels"].pop("added"),
    "Labels gone": lambda plan: plan.config["Labels"].update(gone="old"),
    "ExposedPorts 5000/tcp": lambda plan: plan.config["ExposedPorts"].pop("5000/tcp"),
    "Volumes /anonymous": lambda plan: plan.config["Volumes"].pop("/anonymous"),
    "Healthcheck Interval": lambda plan: plan.config["Healthcheck"].pop("Interval"),
    "Hostname": without("Hostname"),
    "Domainname": without("Domainname"),
    "User": without("User"),
    "WorkingDir": without("WorkingDir"),
    "Cmd": config(Cmd=["other"]),
    "StopSignal": without("StopSignal"),
    "StopTimeout": config(StopTimeout=4),
    "Tty": config(Tty=False),
    "OpenStdin": config(OpenStdin=False),
}
MOUNTS = {
    "Mount /bound": lambda plan: plan.config["HostConfig"]["Binds"].pop(0),
    "Mount /folder": lambda plan: replace_bind(plan, "/srv:/folder", "/opt:/folder"),
    "Mount /anonymous": lambda plan: drop_mount(plan, "/anonymous"),
    "Mount /mounted": lambda plan: drop_mount(plan, "/mounted"),
    "Mount /quick": lambda plan: mount(plan, "/quick")["TmpfsOptions"].update(SizeBytes=1 << 21),
    "Mount /read-only": lambda plan: mount(plan, "/read-only").update(ReadOnly=False),
    "Mount /usr-of-node": lambda plan: replace_bind(plan, "/usr:/usr-of-node:ro", "/usr:/usr-of-node:ro,rslave"),
    "Mount /more": lambda plan: plan.config["HostConfig"]["Binds"].append("/srv:/more"),
}
NETWORKS = {
    "Network first": lambda plan: endpoint(plan).pop("Aliases"),
    "Network second": lambda plan: plan.networks.pop(),
}
HOST = {
    "HostConfig.Memory": host(Memory=128 << 20, MemorySwap=128 << 20),
    "HostConfig.RestartPolicy": host(RestartPolicy={"Name": "always"}),
    "HostConfig.CapDrop": without("CapDrop", of_host=True),
    "HostConfig.PublishAllPorts": host(PublishAllPorts=True),
    "HostConfig.MaskedPaths": host(MaskedPaths=[]),
    "HostConfig.PortBindings": host(PortBindings={}),
}
REMOVED_HOST_SETTINGS = [
    "CapAdd",
    "CpuShares",
    "CpusetCpus",
    "DeviceCgroupRules",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Init",
    "IpcMode",
    "LogConfig",
    "MemoryReservation",
    "NanoCpus",
    "OomScoreAdj",
    "PidsLimit",
    "ReadonlyRootfs",
    "SecurityOpt",
    "ShmSize",
    "Sysctls",
    "Tmpfs",
    "Ulimits",
]
CHANGES: dict[str, Any] = (
    CONFIG
    | MOUNTS
    | NETWORKS
    | HOST
    | {f"HostConfig.{key}": without(key, of_host=True) for key in REMOVED_HOST_SETTINGS}
)


def mount(plan: Plan, path: str) -> dict[str, Any]:
    """Return a planned mount."""
    mounts: list[dict[str, Any]] = plan.config["HostConfig"]["Mounts"]
    return next(mount for mount in mounts if mount["Target"] == path)


def replace_bind(plan: Plan, old: str, new: str) -> None:
    """Replace a bind."""
    binds: list[str] = plan.config["HostConfig"]["Binds"]
    binds[binds.index(old)] = new


def drop_mount(plan: Plan, path: str) -> None:
    """Remove a mount."""
    plan.config["HostConfig"]["Mounts"].remove(mount(plan, path))


def test_each_unexplained_difference_is_named(
    engine: docker.APIClient, containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    """One setting is changed at a time, on real containers. Exactly that difference is reported."""
    saved = capture(engine, containers.add_full_container(old_image["Id"], resources))
    found = {}
    for name, change in CHANGES.items():
        plan = plan_replacement(saved, new_image["Id"], {})
        change(plan)
        changed = containers.create(plan)
        found[name] = unexplained_differences(saved, containers.inspect(changed), new_image)
        engine.remove_container(changed, v=True)

    names = {"Network first": f"Network {resources.primary}", "Network second": f"Network {resources.secondary}"}
    assert found == {name: [names.get(name, name)] for name in CHANGES}


def test_container_on_the_wrong_image_is_reported(containers: Containers, old_image: Image, new_image: Image) -> None:
    saved, new = containers.replace(containers.add({"Image": old_image["Id"]}), old_image["Id"])

    assert {"Env FROM_IMAGE", "Labels gone", "User", "WorkingDir", "Entrypoint"} <= set(
        unexplained_differences(saved, new, new_image)
    )
