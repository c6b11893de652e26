"""Volumes and mounts of a container, and how a replacement gets the same. Used by updates, adoption and purge."""

import posixpath
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

# Without it, creating a container copies files of the image into an empty volume that the old container still uses.
_NO_COPY = "nocopy"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a container.

    Attributes:
        name: name on its engine.
        destination: path in the container.
        anonymous: the engine generated the name, which only the list of mounts shows.
    """

    name: str
    destination: str
    anonymous: bool


def writable_volumes(inspect: dict[str, Any]) -> list[Volume]:
    """Return the volumes, named and anonymous, that a container can write to; each once, ordered by name."""
    named = _destinations_by_name(inspect["HostConfig"])
    found = {
        mount["Name"]: Volume(mount["Name"], mount["Destination"], mount["Destination"] not in named)
        for mount in inspect["Mounts"]
        if mount["Type"] == "volume" and mount["RW"]
    }
    return [found[name] for name in sorted(found)]


def unprotected_paths(inspect: dict[str, Any]) -> list[str]:
    """Return the writable paths in a container that no snapshot protects: folders of the node."""
    return sorted(
        mount["Destination"]
        for mount in inspect["Mounts"]
        if mount["RW"] and mount["Type"] not in {"volume", "tmpfs"}
    )


def reattach_volumes(inspect: dict[str, Any]) -> dict[str, Any]:
    """Return the `Binds` and `Mounts` that give a replacement the same mounts.

    Named volumes and folders keep their configuration. Anonymous volumes, which the host configuration does not name,
    are mounted by their generated names. Nothing is copied into existing volumes, because the old container still
    uses them.
    """
    host_config = inspect["HostConfig"]
    actual = {mount["Destination"]: mount for mount in inspect["Mounts"] if mount["Type"] == "volume"}
    mounts = [_with_source(mount, actual) for mount in host_config.get("Mounts") or []]
    written = _destinations_by_name(host_config) | {clean_path(mount["Target"]) for mount in mounts}
    mounts += [_build_mount(volume) for path, volume in sorted(actual.items()) if path not in written]
    return {"Binds": [strip_nocopy(bind) for bind in host_config.get("Binds") or []], "Mounts": mounts}


def clean_path(path: str) -> str:
    """Normalize a path in a container to the spelling of the engine's list of mounts."""
    return posixpath.normpath(path)


def strip_nocopy(bind: str) -> str:
    """Return a bind such as `volume:/path:ro` with the option `nocopy` instead of a copy from the image."""
    source, path, *mode = bind.split(":", 2)
    if source.startswith("/"):  # the engine never copies into folders of the node
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


def _build_mount(volume: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": volume["Name"],
        "Target": volume["Destination"],
        "ReadOnly": not volume["RW"],
        "VolumeOptions": {"NoCopy": True},
    }
