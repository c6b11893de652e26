"""The status of a bot: one sentence for each combination of phase, update, request and observed state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portal.models import Bot, BotPhase, BotState, BotUpdate, DesiredState, Node, Release, Rollout, Step, UpdateState
from portal.services.bots import bot_status
from portal.services.bots.bot_list import BotRow

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
STOPPED, RUNNING = DesiredState.STOPPED, DesiredState.RUNNING


def describe(update: BotUpdate | None = None, *, error: str | None = None, **values: Any) -> tuple[str, str]:
    """Return state and text of a bot with these values; the others are those of a healthy bot."""
    healthy = {
        "phase": BotPhase.ACTIVE,
        "state": BotState.RUNNING,
        "desired_state": RUNNING,
        "applied_state": RUNNING,
    }
    bot = Bot(node=Node(last_error=error), **{**healthy, **values})
    found = bot_status.describe(BotRow(bot, None, None, update), NOW)
    return found.state, found.text


def update(state: UpdateState, step: Step | None) -> BotUpdate:
    """Return an update to 1.5.0."""
    release = Release(digest="sha256:1.5.0")
    return BotUpdate(state=state, step=step, rollout=Rollout(release=release))


STOPPING = {"desired_state": STOPPED, "applied_state": RUNNING}
RESTARTING = {"restart_requested_at": NOW}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("healthy", "Healthy")),
        ({"state": BotState.UNHEALTHY}, ("unhealthy", "Unhealthy")),
        ({"state": BotState.MISSING}, ("missing", "Container missing")),
        ({"state": BotState.UNKNOWN, "state_detail": "no answer"}, ("unknown", "Unknown")),
        ({"state": BotState.UNKNOWN, "state_detail": "Just started"}, ("running", "Starting: checking its health")),
        ({"state": BotState.STOPPED}, ("stopped", "Stopped unexpectedly")),
        ({"state": BotState.STOPPED, "desired_state": STOPPED, "applied_state": STOPPED}, ("stopped", "Stopped")),
        ({"state": BotState.RUNNING, "phase": BotPhase.CREATING}, ("provisioning", "Being set up")),
        ({"phase": BotPhase.REMOVING}, ("deleting", "Being removed")),
        ({"phase": BotPhase.REMOVED}, ("deleting", "Removed")),
        ({"needs_attention": "docker start", **RESTARTING}, ("needs_attention", "Needs attention")),
        (STOPPING, ("running", "Stopping: waiting for a worker")),
        ({**STOPPING, "lease_owner": "w"}, ("running", "Stopping: stopping its container")),
        ({"applied_state": STOPPED, "state": BotState.STOPPED}, ("running", "Starting: waiting for a worker")),
        (RESTARTING, ("running", "Restarting: waiting for a worker")),
        ({**RESTARTING, "lease_owner": "w"}, ("running", "Restarting: stopping its container")),
        (
            {**RESTARTING, "lease_owner": "w", "state": BotState.STOPPED},
            ("running", "Starting: starting its container"),
        ),
        (
            {**RESTARTING, "error": "refused"},
            ("running", "Restarting: waiting for its server, which does not answer"),
        ),
        (
            {"restart_requested_at": NOW + timedelta(minutes=5), "state": BotState.STOPPED},
            ("stopped", "Stopped unexpectedly"),
        ),
    ],
)
def test_status_names_what_matters_most(values: dict[str, Any], expected: tuple[str, str]) -> None:
    assert describe(**values) == expected


def test_running_update_says_what_it_does() -> None:
    running = update(UpdateState.RUNNING, Step.SNAPSHOT)
    assert describe(running, state=BotState.STOPPED) == ("running", "Updating to 1.5.0: taking a snapshot")
    assert describe(update(UpdateState.RUNNING, None)) == ("running", "Updating to 1.5.0: preparing")
    assert describe(update(UpdateState.PENDING, None)) == ("healthy", "Healthy")
    assert describe(running, needs_attention="x")[1] == "Updating to 1.5.0: taking a snapshot"


def test_every_state_and_step_has_words() -> None:
    for state in BotState:
        assert describe(state=state)[1]
    for step in Step:
        assert describe(update(UpdateState.RUNNING, step))[1] != "Updating to 1.5.0: "
