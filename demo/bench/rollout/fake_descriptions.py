"""What an engine says about a container in all its fields. Used by `fake_containers`.

The descriptions are as large as those of a real engine, because Flotilla decodes, compares and stores them.
"""

from __future__ import annotations

import copy
import secrets
from datetime import UTC, datetime
from typing import Any

IMAGE_ID = f"sha256:{'1' * 64}"
IMAGE_CONFIG: dict[str, Any] = {
    "Env": [],
    "Cmd": None,
    "Entrypoint": ["/app/server"],
    "Labels": {},
    "WorkingDir": "/app",
}
"""Configuration of every image."""

_CONFIG = {
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": [],
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "/app",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": {},
}
_HOST_CONFIG = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    "NetworkMode": "bridge",
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": ["ALL"],
    "CgroupnsMode": "private",
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": ["no-new-privileges"],
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": 67108864,
    "Runtime": "runc",
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 536870912,
    "NanoCpus": 1000000000,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 1073741824,
    "MemorySwappiness": None,
    "OomKillDisable": None,
    "PidsLimit": 512,
    "Ulimits": [],
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
}


def describe(container_id: str, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Describe a new container as an engine does.

    Args:
        container_id: its id.
        name: its name.
        wanted: body of the call that creates it.
    """
    wanted = copy.deepcopy(wanted)
    host_config = _HOST_CONFIG | {
        key: value for key, value in wanted.pop("HostConfig", {}).items() if value is not None
    }
    endpoints = (wanted.pop("NetworkingConfig", None) or {}).get("EndpointsConfig") or {"bridge": {}}
    config = _CONFIG | IMAGE_CONFIG | {key: value for key, value in wanted.items() if value is not None}
    config.setdefault("Hostname", container_id[:12])
    bindings = host_config["PortBindings"]
    now = datetime.now(UTC).isoformat()
    return {
        "Id": container_id,
        "Created": now,
        "Path": "/app/server",
        "Args": [],
        "State": {
            "Status": "created",
            "Running": False,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": 0,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "0001-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "Image": IMAGE_ID,
        "ResolvConfPath": f"/var/lib/docker/containers/{container_id}/resolv.conf",
        "HostnamePath": f"/var/lib/docker/containers/{container_id}/hostname",
        "HostsPath": f"/var/lib/docker/containers/{container_id}/hosts",
        "LogPath": f"/var/lib/docker/containers/{container_id}/{container_id}-json.log",
        "Name": f"/{name}",
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "docker-default",
        "ExecIDs": None,
        "HostConfig": host_config,
        "Mounts": _describe_mounts(host_config),
        "Config": config,
        "NetworkSettings": {
            "Bridge": "",
            "SandboxID": secrets.token_hex(32),
            "Ports": {port: [{"HostIp": "127.0.0.1", **one} for one in each] for port, each in bindings.items()},
            "Networks": {network: _describe_endpoint(endpoint) for network, endpoint in endpoints.items()},
        },
    }


def _describe_mounts(host_config: dict[str, Any]) -> list[dict[str, Any]]:
    binds = (bind.split(":")[:2] for bind in host_config["Binds"] or [])
    pairs = [(source, path) for source, path in binds if not source.startswith("/")]
    pairs += [(mount["Source"], mount["Target"]) for mount in host_config.get("Mounts") or []]
    return [
        {
            "Type": "volume",
            "Name": volume,
            "Source": f"/var/lib/docker/volumes/{volume}/_data",
            "Destination": path,
            "Driver": "local",
            "Mode": "z",
            "RW": True,
            "Propagation": "",
        }
        for volume, path in pairs
    ]


def _describe_endpoint(wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "b" * 64,
        "EndpointID": "",
        "Gateway": "172.17.0.1",
        "IPAddress": "172.17.0.2",
        "MacAddress": "02:42:ac:11:00:02",
        "IPPrefixLen": 16,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
        **{key: value for key, value in wanted.items() if value is not None},
    }
