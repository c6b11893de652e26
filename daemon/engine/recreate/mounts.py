"""Where a container keeps data, and how a replacement gets the same volumes."""

import posixpath
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

# Creating a container copies the image's files into an empty volume at once, while the old container still runs.
_NO_COPY = "nocopy"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a container.

    Attributes:
        name: on its engine.
        destination: path in the container.
        anonymous: the engine made the name up; only the description of the mount knows it.
    """

    name: str
    destination: str
    anonymous: bool


def writable_volumes(inspect: dict[str, Any]) -> list[Volume]:
    """List the volumes, named and anonymous, that the container can write to; each once, ordered by name."""
    named = _destinations_by_name(inspect["HostConfig"])
    found = {
        mount["Name"]: Volume(mount["Name"], mount["Destination"], mount["Destination"] not in named)
        for mount in inspect["Mounts"]
        if mount["Type"] == "volume" and mount["RW"]
    }
    return [found[name] for name in sorted(found)]


def unprotected_paths(inspect: dict[str, Any]) -> list[str]:
    """List the paths in the container that it can write to and no snapshot protects: folders of the node."""
    return sorted(
        mount["Destination"]
        for mount in inspect["Mounts"]
        if mount["RW"] and mount["Type"] not in {"volume", "tmpfs"}
    )


def reattach_volumes(inspect: dict[str, Any]) -> dict[str, Any]:
    """Return the `Binds` and `Mounts` that give a replacement the same mounts.

    Named volumes and folders stay as they were written. Anonymous volumes, which the description of the
    host's side does not name, are mounted by the name the engine gave them. Nothing is copied into volumes that
    exist: they are the old container's until it has stopped.
    """
    host_config = inspect["HostConfig"]
    actual = {mount["Destination"]: mount for mount in inspect["Mounts"] if mount["Type"] == "volume"}
    mounts = [_with_source(mount, actual) for mount in host_config.get("Mounts") or []]
    written = _destinations_by_name(host_config) | {clean_path(mount["Target"]) for mount in mounts}
    mounts += [_mount(volume) for path, volume in sorted(actual.items()) if path not in written]
    return {"Binds": [strip_nocopy(bind) for bind in host_config.get("Binds") or []], "Mounts": mounts}


def clean_path(path: str) -> str:
    """Spell a path in a container as the engine does in its list of mounts."""
    return posixpath.normpath(path)


def strip_nocopy(bind: str) -> str:
    """Return a bind such as `volume:/path:ro` that copies nothing of the image into the volume."""
    source, path, *mode = bind.split(":", 2)
    if source.startswith("/"):  # folders of the node are never filled from an image
        return bind
    options = [option for option in ",".join(mode).split(",") if option and option != _NO_COPY]
    return ":".join([source, path, ",".join([*options, _NO_COPY])])


def _destinations_by_name(host_config: dict[str, Any]) -> set[str]:
    binds = (bind.split(":") for bind in host_config.get("Binds") or [])
    by_bind = {clean_path(targets[1]) for targets in binds if len(targets) > 1}
    by_mount = {
        clean_path(mount["Target"])
        for mount in host_config.get("Mounts") or []
        if mount["Type"] == "volume" and mount.get("Source")
    }
    return by_bind | by_mount


def _with_source(mount: dict[str, Any], actual: dict[str, dict[str, Any]]) -> dict[str, Any]:
    mount = deepcopy(mount)
    volume = actual.get(clean_path(mount["Target"]))
    if mount["Type"] == "volume" and volume is not None:
        mount["Source"] = volume["Name"]
        mount["VolumeOptions"] = {**(mount.get("VolumeOptions") or {}), "NoCopy": True}
    return mount


def _mount(volume: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": volume["Name"],
        "Target": volume["Destination"],
        "ReadOnly": not volume["RW"],
        "VolumeOptions": {"NoCopy": True},
    }
