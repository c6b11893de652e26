"""Comparison of a replacement container with the container it replaces. Used by updates before they stop the bot.

The comparison uses only the engine's descriptions of both containers, not the plan of the replacement. A setting may
differ only where the old value came from the old image and the new value comes from the new image. Differences are
reported without values, which may be secrets.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, UPDATE_LABEL
from daemon.engine.recreate.capture import replace_ids_with_names, shared_container
from daemon.engine.recreate.inherited import inherits_entrypoint, overwrite_variables
from daemon.engine.recreate.mounts import clean_path, strip_nocopy
from daemon.engine.recreate.networks import endpoints, primary_network, short_id

_FLOTILLA_LABELS = (INSTALL_LABEL, BOT_LABEL, UPDATE_LABEL)
# Settings with a comparison of their own: entry by entry, together, or through the list of mounts or networks.
_SPECIAL_SETTINGS = {
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
_SPECIAL_HOST_SETTINGS = {"Binds", "Mounts", "NetworkMode", "RestartPolicy", "ContainerIDFile", "Links"}
_FROM_IMAGE = {"User", "WorkingDir", "StopSignal", "Shell", "OnBuild", "ArgsEscaped"}
# Settings that an engine fills in when they are not set; the values depend on its version.
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
    saved: dict[str, Any],
    new_container: dict[str, Any],
    new_image: dict[str, Any],
    environment: Mapping[str, str | None] | None = None,
) -> list[str]:
    """Return the settings that differ between two containers although their images do not explain it.

    Also explained are Flotilla's labels, a generated host name, the restart policy `no` of a container that was not
    started, and fresh volumes that only the new image declares.

    Args:
        saved: what `capture` returned.
        new_container: the new container as inspected, running or not.
        new_image: its image as inspected.
        environment: variables that were replaced on purpose, as `plan_replacement` takes them. Each must have exactly
            its new value.

    Returns:
        Names such as `Env FOO` or `HostConfig.Memory`; empty when every difference is explained.
    """
    saved = _with_variables(saved, environment or {})
    old_image_config = saved["image"].get("Config") or {}
    new_image_config = new_image.get("Config") or {}
    found = {
        *_compare_entries(saved["container"], old_image_config, new_container, new_image_config),
        *_compare_settings(saved["container"], old_image_config, new_container, new_image_config),
        *_compare_host_config(saved, new_container),
        *_compare_mounts(saved["container"], new_container, new_image_config),
        *_compare_networks(saved, new_container),
    }
    return sorted(found)


def _with_variables(saved: dict[str, Any], environment: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a captured container as if it had been created with these variables."""
    container = saved["container"]
    config = container["Config"]
    inherited = [
        variable
        for variable in (saved["image"].get("Config") or {}).get("Env") or []
        if environment.get(variable.partition("=")[0], "") is None
    ]
    variables = [*overwrite_variables(config.get("Env") or [], environment), *inherited]
    return {**saved, "container": {**container, "Config": {**config, "Env": variables}}}


def _compare_entries(
    old: dict[str, Any], old_image: dict[str, Any], new: dict[str, Any], new_image: dict[str, Any]
) -> Iterator[str]:
    for key in ("Env", "Labels", "ExposedPorts", "Volumes", "Healthcheck"):
        was, was_image, now, now_image = (
            _entries(key, config) for config in (old["Config"], old_image, new["Config"], new_image)
        )
        for entry in was | now | now_image:
            if key == "Labels" and entry in _FLOTILLA_LABELS:
                continue
            if key == "ExposedPorts" and entry in (old["HostConfig"].get("PortBindings") or {}):
                continue  # a published port is always exposed
            expected = (now_image if was.get(entry) == was_image.get(entry) else was).get(entry)
            if now.get(entry) != expected:
                yield f"{key} {entry}"


def _entries(key: str, config: dict[str, Any]) -> dict[str, Any]:
    if key != "Env":
        return config.get(key) or {}
    # A variable without "=" removes the image's variable; one with "=" and no value is set to an empty string.
    variables = (variable.partition("=") for variable in config.get("Env") or [])
    return {name: sign + value for name, sign, value in variables}


def _compare_settings(
    old: dict[str, Any], old_image: dict[str, Any], new: dict[str, Any], new_image: dict[str, Any]
) -> Iterator[str]:
    was, now = old["Config"], new["Config"]
    for key in (was.keys() | now.keys()) - _SPECIAL_SETTINGS:
        inherited = key in _FROM_IMAGE and _is_equal(was.get(key), old_image.get(key))
        if not _is_equal(now.get(key), (new_image if inherited else was).get(key)):
            yield key
    yield from _compare_command(was, old_image, now, new_image)
    if shared_container(primary_network(old)) is None and _configured_hostname(old) != _configured_hostname(new):
        yield "Hostname"


def _compare_command(
    was: dict[str, Any], old_image: dict[str, Any], now: dict[str, Any], new_image: dict[str, Any]
) -> Iterator[str]:
    entrypoint_inherited = inherits_entrypoint(was, old_image)
    command_inherited = entrypoint_inherited and _is_equal(was.get("Cmd"), old_image.get("Cmd"))
    for key, inherited in (("Entrypoint", entrypoint_inherited), ("Cmd", command_inherited)):
        if not _is_equal(now.get(key), (new_image if inherited else was).get(key)):
            yield key


def _configured_hostname(container: dict[str, Any]) -> str | None:
    name = container["Config"].get("Hostname")
    return None if name == short_id(container) else name


def _compare_host_config(saved: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    names = saved["container_names"]
    was, now = (replace_ids_with_names(container["HostConfig"], names) for container in (saved["container"], new))
    for key in (was.keys() | now.keys()) - _SPECIAL_HOST_SETTINGS:
        filled_in = key in _ENGINE_DEFAULTS and was.get(key) in (None, "", 0)  # an empty list is a setting
        if not filled_in and not _is_equal(was.get(key), now.get(key)):
            yield f"HostConfig.{key}"
    if now["RestartPolicy"]["Name"] not in {"", "no"} and not _is_equal(was["RestartPolicy"], now["RestartPolicy"]):
        yield "HostConfig.RestartPolicy"
    if _links(was) != _links(now):
        yield "HostConfig.Links"


def _links(host_config: dict[str, Any]) -> set[tuple[str, str]]:
    # The engine shows a link as "/target:/name of this container/alias"; the new container has a temporary name.
    pairs = (link.partition(":") for link in host_config.get("Links") or [])
    return {(target.lstrip("/"), alias.rpartition("/")[2]) for target, _, alias in pairs}


def _compare_mounts(old: dict[str, Any], new: dict[str, Any], new_image: dict[str, Any]) -> Iterator[str]:
    was, now = _mounts(old), _mounts(new)
    declared = {clean_path(path) for path in new_image.get("Volumes") or {}}
    for path in was.keys() | now.keys():
        fresh = path not in was and path in declared and now[path]["Type"] == "volume"
        if not fresh and was.get(path) != now.get(path):
            yield f"Mount {path}"
    was_options, now_options = _mount_options(old["HostConfig"]), _mount_options(new["HostConfig"])
    for path in was_options.keys() | now_options.keys():
        if not _is_equal(was_options.get(path), now_options.get(path)):
            yield f"Mount {path}"


def _mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    keys = ("Type", "Name", "Driver", "RW", "Propagation")
    return {
        mount["Destination"]: {key: mount.get(key) for key in keys}
        # The engine chooses the path of a volume on the node; the operator chose the path of a folder.
        | ({} if mount["Type"] == "volume" else {"Source": mount.get("Source")})
        for mount in container["Mounts"]
    }


def _mount_options(host_config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each mount, by path, that the engine's list of mounts does not show."""
    options: dict[str, dict[str, Any]] = {}
    for bind in host_config.get("Binds") or []:
        _, path, *mode = strip_nocopy(bind).split(":", 2)
        options[clean_path(path)] = {"mode": sorted(",".join(mode).split(","))}
    for mount in host_config.get("Mounts") or []:
        settings = {key: mount.get(key) for key in ("BindOptions", "TmpfsOptions", "ImageOptions", "Consistency")}
        volume = {key: value for key, value in (mount.get("VolumeOptions") or {}).items() if key != "NoCopy"}
        options[clean_path(mount["Target"])] = {**settings, "VolumeOptions": volume}
    return options


def _compare_networks(saved: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    old = saved["container"]
    was_primary, now_primary = (
        _replace_id_with_name(primary_network(container), saved["container_names"]) for container in (old, new)
    )
    if was_primary != now_primary:
        yield "HostConfig.NetworkMode"
    was, now = endpoints(old), endpoints(new)
    for network in was.keys() | now.keys():
        if network not in was or network not in now or not _is_equal(was[network], now[network]):
            yield f"Network {network}"


def _replace_id_with_name(mode: str, names: Mapping[str, str]) -> str:
    other = shared_container(mode)
    return mode if other is None else f"container:{names.get(other, other)}"


def _is_equal(one: Any, other: Any) -> bool:
    return bool(_normalize(one) == _normalize(other))


def _normalize(value: Any) -> Any:
    """Replace zero and empty values by None, because an engine treats them alike."""
    if isinstance(value, dict):
        normalized = {key: _normalize(entry) for key, entry in value.items()}
        value = {key: entry for key, entry in normalized.items() if entry is not None}
    return value or None
