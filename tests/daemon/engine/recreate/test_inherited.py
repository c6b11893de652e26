"""Separation of own and inherited settings, for generated containers and images."""

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


def merge(own: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Merge settings with the defaults of an image by the rules of the engine."""
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
@given(own_settings=CONFIGS, image=CONFIGS)
def test_own_settings_and_image_defaults_give_the_original_container(
    own_settings: dict[str, Any], image: dict[str, Any]
) -> None:
    container = merge(own_settings, image)

    assert merge(subtract_image_config(container, image), image) == container


@settings(deadline=None)
@given(own_settings=CONFIGS, old=CONFIGS, new=CONFIGS)
def test_defaults_of_the_old_image_are_not_kept(
    own_settings: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
) -> None:
    """On a new image the container is as if it had been created there, except for values equal in the old image."""
    unlike_old = subtract_image_config(own_settings, old)

    own = subtract_image_config(merge(own_settings, old), old)

    assert merge(own, new)["Labels"] == merge(unlike_old, new)["Labels"]
    assert merge(own, new)["Env"] == merge(unlike_old, new)["Env"]
    assert merge(own, new)["Volumes"] == merge(unlike_old, new)["Volumes"]
