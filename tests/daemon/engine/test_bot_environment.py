"""The variables of a created or recreated container, and which differences the comparison then accepts."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.engine.bot_environment import bot_environment
from daemon.engine.recreate.compare import unexplained_differences
from daemon.engine.recreate.creation import plan_replacement
from portal.models import Bot

VARIABLE = "PROVISION_SECRET"
PREVIOUS = f"{VARIABLE}_PREVIOUS"


def saved(*variables: str, image: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the description of a captured container with these variables."""
    host: dict[str, Any] = {"NetworkMode": "bridge", "RestartPolicy": {"Name": "always"}, "Binds": None, "Mounts": []}
    container = {
        "Id": "a" * 64,
        "Config": {"Env": [*variables], "Labels": {}},
        "HostConfig": host,
        "Mounts": [],
        "NetworkSettings": {"Networks": {"bridge": {}}},
    }
    return {"container": container, "image": {"Config": {"Env": list(image)}}, "container_names": {}}


def created(*variables: str) -> dict[str, Any]:
    """Return the description of a new container with these variables."""
    return {**saved(*variables)["container"], "Id": "b" * 64}


@pytest.mark.parametrize(
    ("secret_variable", "secret", "expected"),
    [
        (VARIABLE, {"current": "one", "next": None}, {VARIABLE: "one", PREVIOUS: None}),
        (VARIABLE, {"current": "one", "next": "two"}, {VARIABLE: "two", PREVIOUS: "one"}),
        (VARIABLE, None, {}),
        (None, {"current": "one", "next": None}, {}),
    ],
)
def test_container_gets_its_id_the_newest_secret_and_the_other_one_during_a_rotation(
    secret_variable: str | None, secret: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    bot = Bot(id="b1", secret_variable=secret_variable, provision_secret=secret)
    assert bot_environment(bot) == {"FLOTILLA_BOT_ID": "b1", **expected}


def test_plan_replaces_the_secrets_and_nothing_else() -> None:
    before = saved("A=1", f"{VARIABLE}=one", f"{PREVIOUS}=zero")
    plan = plan_replacement(before, "image", {}, {VARIABLE: "two", PREVIOUS: None})
    assert plan.config["Env"] == ["A=1", f"{VARIABLE}=two"]


@pytest.mark.parametrize(
    ("variables", "differences"),
    [
        (["A=1", f"{VARIABLE}=two"], []),
        (["A=1", f"{VARIABLE}=one"], [f"Env {VARIABLE}"]),
        (["A=1"], [f"Env {VARIABLE}"]),
        (["A=2", f"{VARIABLE}=two"], ["Env A"]),
        (["A=1", f"{VARIABLE}=two", f"{PREVIOUS}=zero"], [f"Env {PREVIOUS}"]),
    ],
)
def test_comparison_accepts_exactly_the_new_secrets(variables: list[str], differences: list[str]) -> None:
    before = saved("A=1", f"{VARIABLE}=one", f"{PREVIOUS}=zero")
    secrets = {VARIABLE: "two", PREVIOUS: None}
    assert unexplained_differences(before, created(*variables), {"Config": {}}, secrets) == differences


def test_variable_that_is_left_out_may_come_from_the_image() -> None:
    before = saved(f"{VARIABLE}=one", f"{PREVIOUS}=default", image=(f"{PREVIOUS}=default",))
    after = created(f"{VARIABLE}=two", f"{PREVIOUS}=other")
    image = {"Config": {"Env": [f"{PREVIOUS}=other"]}}
    assert unexplained_differences(before, after, image, {VARIABLE: "two", PREVIOUS: None}) == []
