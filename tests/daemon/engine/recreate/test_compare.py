"""A replacement that lost or gained something is found out."""

from collections.abc import Callable
from typing import Any

import docker
import pytest

from daemon.engine.recreate.capture import capture
from daemon.engine.recreate.compare import unexplained_differences
from daemon.engine.recreate.creation import Plan, plan_replacement
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.everything import Surroundings

pytestmark = pytest.mark.docker

Image = dict[str, Any]
Spoil = Callable[[Plan], object]


def without(key: str, *, of_host: bool = False) -> Spoil:
    """Leave out one setting."""

    def spoil(plan: Plan) -> None:
        settings = plan.config["HostConfig"] if of_host else plan.config
        assert settings.pop(key)

    return spoil


def host(**settings: Any) -> Spoil:
    """Change settings of the node's side."""
    return lambda plan: plan.config["HostConfig"].update(settings)


def config(**settings: Any) -> Spoil:
    """Change settings of the container itself."""
    return lambda plan: plan.config.update(settings)


def endpoint(plan: Plan) -> dict[str, Any]:
    """Return the endpoint in the primary network."""
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
LEFT_OUT = [
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
SPOILT: dict[str, Any] = (
    CONFIG | MOUNTS | NETWORKS | HOST | {f"HostConfig.{key}": without(key, of_host=True) for key in LEFT_OUT}
)


def mount(plan: Plan, path: str) -> dict[str, Any]:
    """Return a planned mount."""
    mounts: list[dict[str, Any]] = plan.config["HostConfig"]["Mounts"]
    return next(mount for mount in mounts if mount["Target"] == path)


def replace_bind(plan: Plan, old: str, new: str) -> None:
    """Write a bind differently."""
    binds: list[str] = plan.config["HostConfig"]["Binds"]
    binds[binds.index(old)] = new


def drop_mount(plan: Plan, path: str) -> None:
    """Leave a mount out."""
    plan.config["HostConfig"]["Mounts"].remove(mount(plan, path))


def test_each_unexplained_difference_is_named(
    engine: docker.APIClient, containers: Containers, around: Surroundings, old_image: Image, new_image: Image
) -> None:
    """One thing is spoilt at a time, on containers of the engine; each is named, and nothing else is."""
    saved = capture(engine, containers.add_everything(old_image["Id"], around))
    found = {}
    for name, spoil in SPOILT.items():
        plan = plan_replacement(saved, new_image["Id"], {})
        spoil(plan)
        spoilt = containers.follow(plan)
        found[name] = unexplained_differences(saved, containers.inspect(spoilt), new_image)
        engine.remove_container(spoilt, v=True)

    names = {"Network first": f"Network {around.primary}", "Network second": f"Network {around.secondary}"}
    assert found == {name: [names.get(name, name)] for name in SPOILT}


def test_the_wrong_image_is_found_out(containers: Containers, old_image: Image, new_image: Image) -> None:
    """A container that really runs on another image than was said shows that image's defaults."""
    saved, new = containers.replace(containers.add({"Image": old_image["Id"]}), old_image["Id"])

    assert {"Env FROM_IMAGE", "Labels gone", "User", "WorkingDir", "Entrypoint"} <= set(
        unexplained_differences(saved, new, new_image)
    )
