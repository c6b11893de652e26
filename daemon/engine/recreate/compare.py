"""Compares a replacement with the container it replaces, before that one is stopped.

It looks only at what the engine says of both, not at how the replacement was planned: a setting may differ only
where the old one came from the old image and the new one comes from the new image. Differences are named without
their values, which may be secrets.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, UPDATE_LABEL
from daemon.engine.recreate.capture import replace_ids_with_names, shared_container
from daemon.engine.recreate.inherited import inherits_entrypoint
from daemon.engine.recreate.mounts import clean_path, strip_nocopy
from daemon.engine.recreate.networks import endpoints, primary_network, short_id

_OUR_LABELS = (INSTALL_LABEL, BOT_LABEL, UPDATE_LABEL)
# Compared entry by entry, or together, or through the list of mounts or networks.
_COMPARED_APART = {
    "Image",
    "Hostname",
    "Env",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "Healthcheck",
    "Cmd",
    "Entrypoint",
}
_HOST_COMPARED_APART = {"Binds", "Mounts", "NetworkMode", "RestartPolicy", "ContainerIDFile", "Links"}
_FROM_IMAGE = {"User", "WorkingDir", "StopSignal", "Shell", "OnBuild", "ArgsEscaped"}
# Settings that an engine fills in itself where nothing was said, each version in its own way.
_ENGINE_DEFAULTS = {
    "CgroupnsMode",
    "ConsoleSize",
    "IpcMode",
    "MaskedPaths",
    "MemorySwap",
    "MemorySwappiness",
    "OomKillDisable",
    "ReadonlyPaths",
    "Runtime",
    "ShmSize",
}


def unexplained_differences(
    saved: dict[str, Any], new_container: dict[str, Any], new_image: dict[str, Any]
) -> list[str]:
    """Name what differs between the old and the new container and is not the two images' own difference.

    Explained too: our own labels, a generated host name, the restart policy `no` of a container that waits, and
    fresh volumes which only the new image declares.

    Args:
        saved: what `capture` returned.
        new_container: the new container as inspected, running or not.
        new_image: its image as inspected.

    Returns:
        Names such as `Env FOO` or `HostConfig.Memory`; empty when all is explained.
    """
    old_image_config = saved["image"].get("Config") or {}
    new_image_config = new_image.get("Config") or {}
    found = {
        *_of_entries(saved["container"], old_image_config, new_container, new_image_config),
        *_of_settings(saved["container"], old_image_config, new_container, new_image_config),
        *_of_host(saved, new_container),
        *_of_mounts(saved["container"], new_container, new_image_config),
        *_of_networks(saved, new_container),
    }
    return sorted(found)


def _of_entries(
    old: dict[str, Any], old_image: dict[str, Any], new: dict[str, Any], new_image: dict[str, Any]
) -> Iterator[str]:
    for key in ("Env", "Labels", "ExposedPorts", "Volumes", "Healthcheck"):
        was, was_image, now, now_image = (
            _entries(key, config) for config in (old["Config"], old_image, new["Config"], new_image)
        )
        for entry in was | now | now_image:
            if key == "Labels" and entry in _OUR_LABELS:
                continue
            if key == "ExposedPorts" and entry in (old["HostConfig"].get("PortBindings") or {}):
                continue  # published, hence exposed, whatever an image says
            expected = (now_image if was.get(entry) == was_image.get(entry) else was).get(entry)
            if now.get(entry) != expected:
                yield f"{key} {entry}"


def _entries(key: str, config: dict[str, Any]) -> dict[str, Any]:
    if key != "Env":
        return config.get(key) or {}
    # A variable without "=" takes the image's away, which is not the same as an empty one.
    variables = (variable.partition("=") for variable in config.get("Env") or [])
    return {name: sign + value for name, sign, value in variables}


def _of_settings(
    old: dict[str, Any], old_image: dict[str, Any], new: dict[str, Any], new_image: dict[str, Any]
) -> Iterator[str]:
    was, now = old["Config"], new["Config"]
    for key in (was.keys() | now.keys()) - _COMPARED_APART:
        inherited = key in _FROM_IMAGE and _same(was.get(key), old_image.get(key))
        if not _same(now.get(key), (new_image if inherited else was).get(key)):
            yield key
    yield from _of_command(was, old_image, now, new_image)
    if shared_container(primary_network(old)) is None and _set_hostname(old) != _set_hostname(new):
        yield "Hostname"


def _of_command(
    was: dict[str, Any], old_image: dict[str, Any], now: dict[str, Any], new_image: dict[str, Any]
) -> Iterator[str]:
    entrypoint_inherited = inherits_entrypoint(was, old_image)
    command_inherited = entrypoint_inherited and _same(was.get("Cmd"), old_image.get("Cmd"))
    for key, inherited in (("Entrypoint", entrypoint_inherited), ("Cmd", command_inherited)):
        if not _same(now.get(key), (new_image if inherited else was).get(key)):
            yield key


def _set_hostname(container: dict[str, Any]) -> str | None:
    name = container["Config"].get("Hostname")
    return None if name == short_id(container) else name


def _of_host(saved: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    names = saved["container_names"]
    was, now = (replace_ids_with_names(container["HostConfig"], names) for container in (saved["container"], new))
    for key in (was.keys() | now.keys()) - _HOST_COMPARED_APART:
        filled_in = key in _ENGINE_DEFAULTS and was.get(key) in (None, "", 0)  # an empty list was said
        if not filled_in and not _same(was.get(key), now.get(key)):
            yield f"HostConfig.{key}"
    if now["RestartPolicy"]["Name"] not in {"", "no"} and not _same(was["RestartPolicy"], now["RestartPolicy"]):
        yield "HostConfig.RestartPolicy"
    if _links(was) != _links(now):
        yield "HostConfig.Links"


def _links(host_config: dict[str, Any]) -> set[tuple[str, str]]:
    # Shown as "/target:/name of this container/alias", and this container's name is a temporary one.
    pairs = (link.partition(":") for link in host_config.get("Links") or [])
    return {(target.lstrip("/"), alias.rpartition("/")[2]) for target, _, alias in pairs}


def _of_mounts(old: dict[str, Any], new: dict[str, Any], new_image: dict[str, Any]) -> Iterator[str]:
    was, now = _mounts(old), _mounts(new)
    declared = {clean_path(path) for path in new_image.get("Volumes") or {}}
    for path in was.keys() | now.keys():
        fresh = path not in was and path in declared and now[path]["Type"] == "volume"
        if not fresh and was.get(path) != now.get(path):
            yield f"Mount {path}"
    was_options, now_options = _mount_options(old["HostConfig"]), _mount_options(new["HostConfig"])
    for path in was_options.keys() | now_options.keys():
        if not _same(was_options.get(path), now_options.get(path)):
            yield f"Mount {path}"


def _mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    keys = ("Type", "Name", "Driver", "RW", "Propagation")
    return {
        mount["Destination"]: {key: mount.get(key) for key in keys}
        # The path of a volume on the node is the engine's affair, that of a folder was chosen.
        | ({} if mount["Type"] == "volume" else {"Source": mount.get("Source")})
        for mount in container["Mounts"]
    }


def _mount_options(host_config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was said of each mount besides what the list of mounts shows."""
    options: dict[str, dict[str, Any]] = {}
    for bind in host_config.get("Binds") or []:
        _, path, *mode = strip_nocopy(bind).split(":", 2)
        options[clean_path(path)] = {"mode": sorted(",".join(mode).split(","))}
    for mount in host_config.get("Mounts") or []:
        said = {key: mount.get(key) for key in ("BindOptions", "TmpfsOptions", "ImageOptions", "Consistency")}
        volume = {key: value for key, value in (mount.get("VolumeOptions") or {}).items() if key != "NoCopy"}
        options[clean_path(mount["Target"])] = {**said, "VolumeOptions": volume}
    return options


def _of_networks(saved: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    old = saved["container"]
    was_primary, now_primary = (
        _named(primary_network(container), saved["container_names"]) for container in (old, new)
    )
    if was_primary != now_primary:
        yield "HostConfig.NetworkMode"
    was, now = endpoints(old), endpoints(new)
    for network in was.keys() | now.keys():
        if network not in was or network not in now or not _same(was[network], now[network]):
            yield f"Network {network}"


def _named(mode: str, names: Mapping[str, str]) -> str:
    other = shared_container(mode)
    return mode if other is None else f"container:{names.get(other, other)}"


def _same(one: Any, other: Any) -> bool:
    return bool(_meaning(one) == _meaning(other))


def _meaning(value: Any) -> Any:
    """Reduce a value to what an engine understands: it does not tell nothing, zero and emptiness apart."""
    if isinstance(value, dict):
        targets = {key: _meaning(target) for key, target in value.items()}
        value = {key: target for key, target in targets.items() if target is not None}
    return value or None
