"""Separation of settings made by hand from settings inherited from the image. Used to plan and compare replacements.

The engine shows both together. A replacement keeps the settings made by hand and takes all others from its new image.
"""

from collections.abc import Mapping
from typing import Any

# Settings that are inherited as a whole.
_WHOLE_SETTINGS = ("User", "WorkingDir", "StopSignal", "Shell", "OnBuild", "ArgsEscaped")
# Settings that are inherited key by key.
_KEYED_SETTINGS = ("Labels", "ExposedPorts", "Volumes")


def subtract_image_config(config: dict[str, Any], image_config: dict[str, Any] | None) -> dict[str, Any]:
    """Return the configuration of a container without the settings inherited from its image.

    A value set by hand to exactly the value of the image counts as inherited.

    Args:
        config: `Config` of the container.
        image_config: `Config` of the image it was created from.
    """
    image = image_config or {}
    own = {key: value for key, value in config.items() if key not in _WHOLE_SETTINGS or value != image.get(key)}
    own["Env"] = [variable for variable in config.get("Env") or [] if variable not in (image.get("Env") or [])]
    for key in _KEYED_SETTINGS:
        own[key] = changed_values(config.get(key), image.get(key))
    own["Healthcheck"] = changed_values(config.get("Healthcheck"), image.get("Healthcheck")) or None
    return own | _subtract_command(config, image)


def overwrite_variables(variables: list[str], replaced: Mapping[str, str | None]) -> list[str]:
    """Return environment variables (`NAME=value`) with other values, or without those whose new value is None."""
    kept = [variable for variable in variables if variable.partition("=")[0] not in replaced]
    return kept + [f"{name}={value}" for name, value in replaced.items() if value is not None]


def changed_values(values: dict[str, Any] | None, inherited: dict[str, Any] | None) -> dict[str, Any]:
    """Return the entries whose values differ from those in `inherited`."""
    inherited = inherited or {}
    return {key: value for key, value in (values or {}).items() if key not in inherited or inherited[key] != value}


def _subtract_command(config: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Subtract entrypoint and command together: an engine ignores the image's command when an entrypoint is set."""
    command, entrypoint = config.get("Cmd"), config.get("Entrypoint")
    if not inherits_entrypoint(config, image):
        # One empty string removes the entrypoint of the image.
        return {"Entrypoint": entrypoint or [""], "Cmd": command}
    return {"Entrypoint": None, "Cmd": None if command == image.get("Cmd") else command}


def inherits_entrypoint(config: dict[str, Any], image: dict[str, Any]) -> bool:
    """Return whether a container inherits the entrypoint of its image.

    If the image has a command and the container has none, the same entrypoint was set by hand.
    """
    command_dropped = bool(image.get("Cmd")) and not config.get("Cmd")
    return (config.get("Entrypoint") or []) == (image.get("Entrypoint") or []) and not command_dropped
