"""Own settings and inherited ones are told apart, for any container and image."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.engine.recreate.inherited import subtract_image_config

KEYS = st.sampled_from(["A", "B", "C"])
VALUES = st.sampled_from(["", "1", "2"])
WORDS = st.none() | st.lists(st.sampled_from(["run", "serve"]), max_size=2)
MAPS = st.dictionaries(KEYS, VALUES)
TIMES = st.dictionaries(st.sampled_from(["Interval", "Timeout", "Retries"]), st.integers(1, 3))
CONFIGS = st.fixed_dictionaries(
    {
        "Env": st.dictionaries(KEYS, VALUES).map(
            lambda variables: [f"{key}={value}" for key, value in variables.items()]
        ),
        "Labels": MAPS,
        "ExposedPorts": st.sets(st.sampled_from(["80/tcp", "81/tcp"])).map(
            lambda ports: {port: {} for port in ports}
        ),
        "Volumes": st.sets(st.sampled_from(["/a", "/b"])).map(lambda paths: {path: {} for path in paths}),
        "Healthcheck": st.none() | TIMES.map(lambda times: {"Test": ["CMD", "check"], **times}),
        "User": VALUES,
        "WorkingDir": VALUES,
        "StopSignal": VALUES,
        "Entrypoint": WORDS,
        "Cmd": WORDS,
    }
)


def merged(own: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Merge settings with an image's defaults by the rules of the engine."""
    names = {variable.partition("=")[0] for variable in own["Env"]}
    inherited = [variable for variable in image["Env"] if variable.partition("=")[0] not in names]
    result: dict[str, Any] = {"Env": sorted([*own["Env"], *inherited])}
    for key in ("Labels", "ExposedPorts", "Volumes", "Healthcheck"):
        result[key] = (image[key] or {}) | (own.get(key) or {})
    for key in ("User", "WorkingDir", "StopSignal"):
        result[key] = own.get(key) or image[key]
    entrypoint, command = own["Entrypoint"], own["Cmd"]
    if not entrypoint and not command:
        command = image["Cmd"]
    if entrypoint is None:
        entrypoint = image["Entrypoint"]
    return result | {"Entrypoint": [] if entrypoint == [""] else entrypoint or [], "Cmd": command or []}


@settings(deadline=None)
@given(said=CONFIGS, image=CONFIGS)
def test_own_settings_and_the_image_make_the_container_again(said: dict[str, Any], image: dict[str, Any]) -> None:
    """Nothing that was said gets lost, whatever the image says."""
    container = merged(said, image)

    assert merged(subtract_image_config(container, image), image) == container


@settings(deadline=None)
@given(said=CONFIGS, old=CONFIGS, new=CONFIGS)
def test_nothing_of_the_old_image_is_carried_along(
    said: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
) -> None:
    """On a new image the container is as if it had been created there, but for what the old image said equally."""
    unlike_old = subtract_image_config(said, old)

    own = subtract_image_config(merged(said, old), old)

    assert merged(own, new)["Labels"] == merged(unlike_old, new)["Labels"]
    assert merged(own, new)["Env"] == merged(unlike_old, new)["Env"]
    assert merged(own, new)["Volumes"] == merged(unlike_old, new)["Volumes"]
