"""Tells what a container inherited from its image from what was set by hand.

The engine shows both mixed. A replacement must keep what was set and take the rest from its own image, or it
would drag the old image's defaults along for ever.
"""

from typing import Any

# Settings that are the image's as a whole unless they were set.
_WHOLE = ("User", "WorkingDir", "StopSignal", "Shell", "OnBuild", "ArgsEscaped")
_KEYED = ("Labels", "ExposedPorts", "Volumes")


def subtract_image_config(config: dict[str, Any], image_config: dict[str, Any] | None) -> dict[str, Any]:
    """Return a container's configuration without what came from its image.

    A value that was set by hand to exactly what the image says cannot be told from an inherited one.

    Args:
        config: `Config` of the container.
        image_config: `Config` of the very image it was created from.
    """
    image = image_config or {}
    own = {key: value for key, value in config.items() if key not in _WHOLE or value != image.get(key)}
    own["Env"] = [variable for variable in config.get("Env") or [] if variable not in (image.get("Env") or [])]
    for key in _KEYED:
        own[key] = changed_values(config.get(key), image.get(key))
    own["Healthcheck"] = changed_values(config.get("Healthcheck"), image.get("Healthcheck")) or None
    return own | _own_command(config, image)


def changed_values(values: dict[str, Any] | None, inherited: dict[str, Any] | None) -> dict[str, Any]:
    """Return the entries that are not the same in `inherited`."""
    inherited = inherited or {}
    return {key: value for key, value in (values or {}).items() if key not in inherited or inherited[key] != value}


def _own_command(config: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Decide on entrypoint and command together: an engine ignores the image's command beside a set entrypoint."""
    command, entrypoint = config.get("Cmd"), config.get("Entrypoint")
    if not inherits_entrypoint(config, image):
        # An entrypoint that was taken away is asked for as one empty word.
        return {"Entrypoint": entrypoint or [""], "Cmd": command}
    return {"Entrypoint": None, "Cmd": None if command == image.get("Cmd") else command}


def inherits_entrypoint(config: dict[str, Any], image: dict[str, Any]) -> bool:
    """Say whether a container's entrypoint is its image's.

    Where the image's command is missing, the same entrypoint was set by hand.
    """
    command_dropped = bool(image.get("Cmd")) and not config.get("Cmd")
    return (config.get("Entrypoint") or []) == (image.get("Entrypoint") or []) and not command_dropped
