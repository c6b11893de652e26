"""Why a container has stopped, by its restart policy, its exit code and what the engine remembers."""

from __future__ import annotations

from typing import Any

import pytest

from portal.rules.stop_causes import ContainerEnd, StopCause, find_stop_cause


def policy(name: str, retries: int = 0) -> dict[str, Any]:
    """Return a restart policy as the engine describes it."""
    return {"Name": name, "MaximumRetryCount": retries}


@pytest.mark.parametrize("exit_code", [0, 1, 137, 255])
@pytest.mark.parametrize("name", ["always", "unless-stopped"])
def test_engine_would_have_restarted_the_container(name: str, exit_code: int) -> None:
    assert find_stop_cause(policy(name), ContainerEnd(exit_code=exit_code)) is StopCause.ENGINE


@pytest.mark.parametrize("name", ["always", "unless-stopped", "on-failure", "no", ""])
def test_container_that_a_person_stopped_stays_down(name: str) -> None:
    assert find_stop_cause(policy(name), ContainerEnd(exit_code=137, by_person=True)) is StopCause.PERSON


@pytest.mark.parametrize("asked", [{}, policy("no"), policy("")])
def test_container_without_a_policy_stays_down(asked: dict[str, Any]) -> None:
    assert find_stop_cause(asked, ContainerEnd(exit_code=255)) is StopCause.ITSELF


@pytest.mark.parametrize(
    ("exit_code", "retries", "restarts", "cause"),
    [
        (0, 0, 0, StopCause.ITSELF),
        (1, 0, 9, StopCause.ENGINE),
        (137, 3, 2, StopCause.ENGINE),
        (1, 3, 3, StopCause.ITSELF),
    ],
    ids=["success", "no limit", "below the limit", "at the limit"],
)
def test_container_that_crashes_is_not_restarted_for_ever(
    exit_code: int, retries: int, restarts: int, cause: StopCause
) -> None:
    end = ContainerEnd(exit_code=exit_code, restarts=restarts)
    assert find_stop_cause(policy("on-failure", retries), end) is cause


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"exit_code": 137}, StopCause.PERSON),
        ({"exit_code": 255}, StopCause.ENGINE),
        ({"exit_code": 137, "start_failed": True}, StopCause.ENGINE),
        ({"exit_code": 137, "start_failed": True, "by_person": True}, StopCause.ENGINE),
        ({"exit_code": 143, "engine_restarted": True}, StopCause.ENGINE),
    ],
    ids=["engine was up", "engine crashed", "engine cannot start it", "signal before that", "engine was restarted"],
)
def test_end_that_the_engine_has_forgotten(facts: dict[str, Any], cause: StopCause) -> None:
    end = ContainerEnd(is_remembered=False, **facts)
    assert find_stop_cause(policy("unless-stopped"), end) is cause
    assert find_stop_cause(policy("on-failure"), end) is cause


def test_forgotten_end_of_a_container_without_a_policy_is_its_own() -> None:
    assert find_stop_cause(policy("no"), ContainerEnd(exit_code=143, is_remembered=False)) is StopCause.ITSELF
