"""A container with every setting that a replacement must keep, and images with different defaults."""

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import docker
from docker.types import IPAMConfig, IPAMPool

from demo.processes import free_port
from tests.support.workers import worker_number

_SUBNETS = itertools.cycle(range(32 * worker_number(), 32 * worker_number() + 32))
MAC = "02:42:0a:b2:42:99"
RUN_FOREVER = ["sh", "-c", "while :; do sleep 1; done"]

OLD_DEFAULTS = [
    "ENV FROM_IMAGE=old OVERRIDDEN=image GONE=old",
    "LABEL from.image=old overridden=image gone=old",
    "EXPOSE 3100 3101",
    "VOLUME /declared /declared-old",
    "WORKDIR /tmp",
    "USER 1000",
    "STOPSIGNAL SIGINT",
    'ENTRYPOINT ["env"]',
    'CMD ["old"]',
    "HEALTHCHECK --interval=60s --timeout=7s --retries=4 CMD old",
]
NEW_DEFAULTS = [
    "ENV FROM_IMAGE=new OVERRIDDEN=new FRESH=new",
    "LABEL from.image=new overridden=new fresh=new",
    "EXPOSE 3100 3102",
    "VOLUME /declared /declared-new",
    "WORKDIR /root",
    "USER 2000",
    "STOPSIGNAL SIGQUIT",
    'ENTRYPOINT ["nice"]',
    'CMD ["new"]',
    "HEALTHCHECK --interval=50s --timeout=8s --retries=5 CMD new",
]


def build_image(engine: docker.APIClient, base: str, defaults: list[str]) -> dict[str, Any]:
    """Build an image from `base` and lines of a Dockerfile that set defaults. Return its description."""
    image = ""
    dockerfile = "\n".join([f"FROM {base}", *defaults])
    for message in engine.build(fileobj=io.BytesIO(dockerfile.encode()), decode=True, rm=True):
        assert "error" not in message, message
        image = message.get("aux", {}).get("ID") or image
    inspected: dict[str, Any] = engine.inspect_image(image)  # type: ignore[no-untyped-call]
    return inspected


@dataclass(frozen=True)
class Resources:
    """Networks and volumes to which a container refers."""

    primary: str
    secondary: str
    volume_in_binds: str
    volume_in_mounts: str
    read_only_volume: str
    address: str
    port: int


@contextmanager
def provide_resources(engine: docker.APIClient) -> Iterator[Resources]:
    """Create networks and volumes for the duration of a `with` block."""
    subnet = f"10.178.{next(_SUBNETS)}"
    one, two, bound, mounted, read_only = (f"flotilla-test-{uuid4().hex[:8]}" for _ in range(5))
    resources = Resources(one, two, bound, mounted, read_only, address=f"{subnet}.77", port=free_port())
    pool = IPAMPool(subnet=f"{subnet}.0/24", gateway=f"{subnet}.1")
    engine.create_network(resources.primary, ipam=IPAMConfig(pool_configs=[pool]))
    engine.create_network(resources.secondary)
    for volume in (resources.volume_in_binds, resources.volume_in_mounts, resources.read_only_volume):
        engine.create_volume(volume)
    try:
        yield resources
    finally:
        for network in (resources.primary, resources.secondary):
            engine.remove_network(network)
        for volume in (resources.volume_in_binds, resources.volume_in_mounts, resources.read_only_volume):
            engine.remove_volume(volume)


def full_config(image: str, resources: Resources) -> dict[str, Any]:
    """Return the configuration of a container with every setting."""
    return {
        "Image": image,
        "Hostname": "by-hand",
        "Domainname": "example.org",
        "User": "0",
        "WorkingDir": "/var",
        "Entrypoint": RUN_FOREVER[:2],
        "Cmd": RUN_FOREVER[2:],
        "Env": ["OVERRIDDEN=operator", "ADDED=a=b", "EMPTY=", "GONE"],
        "Labels": {"overridden": "operator", "added": "yes"},
        "ExposedPorts": {"3100/tcp": {}, "4000/udp": {}, "5000/tcp": {}},
        "Volumes": {"/anonymous": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000},
        "StopSignal": "SIGKILL",
        "StopTimeout": 3,
        "Tty": True,
        "OpenStdin": True,
        "MacAddress": MAC,
        "HostConfig": _host_config(resources),
        "NetworkingConfig": {
            "EndpointsConfig": {
                resources.primary: {"Aliases": ["first"], "IPAMConfig": {"IPv4Address": resources.address}},
            }
        },
    }


def _host_config(resources: Resources) -> dict[str, Any]:
    return {
        "Binds": [f"{resources.volume_in_binds}:/bound", "/srv:/folder", "/usr:/usr-of-node:ro"],
        "Mounts": [
            {"Type": "volume", "Source": resources.volume_in_mounts, "Target": "/mounted"},
            {"Type": "volume", "Source": resources.read_only_volume, "Target": "/read-only", "ReadOnly": True},
            {"Type": "volume", "Target": "/unnamed", "VolumeOptions": {"Labels": {"kept": "yes"}}},
            {"Type": "tmpfs", "Target": "/quick", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1777}},
        ],
        "Tmpfs": {"/scratch": "size=1m,mode=1777"},
        "NetworkMode": resources.primary,
        "PortBindings": {
            "3100/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(resources.port)}],
            "4000/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        },
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4},
        "Memory": 64 << 20,
        "MemoryReservation": 32 << 20,
        "NanoCpus": 500_000_000,
        "CpuShares": 512,
        "CpusetCpus": "0",
        "PidsLimit": 50,
        "OomScoreAdj": 200,
        "Ulimits": [{"Name": "nofile", "Soft": 1000, "Hard": 2000}],
        "Sysctls": {"net.core.somaxconn": "500"},
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["MKNOD"],
        "SecurityOpt": ["no-new-privileges"],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"}],
        "DeviceCgroupRules": ["c 1:5 r"],
        "MaskedPaths": ["/proc/acpi"],
        "ReadonlyPaths": ["/proc/irq"],
        "GroupAdd": ["27"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "Dns": ["127.0.0.9"],
        "DnsSearch": ["example.org"],
        "DnsOptions": ["ndots:2"],
        "ExtraHosts": ["db.example.org:127.0.0.8"],
        "ShmSize": 2 << 20,
        "Init": True,
        "ReadonlyRootfs": True,
        "IpcMode": "shareable",
        "Runtime": "runc",
    }
