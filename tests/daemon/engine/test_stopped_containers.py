"""What an engine knows about containers that have stopped."""

from __future__ import annotations

from typing import Any, cast

import docker
import pytest

from daemon.engine.stopped_containers import has_ended_with_engine

BOT = "bot"


class RememberingEngine:
    """An engine with events in its memory and running containers.

    Args:
        remembered: actions of events of the bot.
        others: number of events of other containers.
        started: minutes of the hour at which the other containers started. The bot stopped at minute 30.
    """

    def __init__(self, remembered: list[str], others: int, started: list[int]) -> None:
        self._remembered = remembered
        self._others = others
        self._started = started

    def info(self) -> dict[str, Any]:
        """Return the time of the engine's clock."""
        return {"SystemTime": "2026-01-01T12:59:00Z"}

    def events(self, **_options: Any) -> Any:
        """Yield the remembered events, oldest first."""
        named = [(BOT, action) for action in self._remembered] + [("other", "start")] * self._others
        return ({"Actor": {"ID": who}, "Action": action, "timeNano": 1_767_270_600 * 10**9} for who, action in named)

    def containers(self) -> list[dict[str, Any]]:
        """List the running containers."""
        return [{"Id": str(minute)} for minute in self._started]

    def inspect_container(self, container: str) -> dict[str, Any]:
        """Describe a running container."""
        return {"State": {"StartedAt": f"2026-01-01T12:{container}:00Z"}}


@pytest.mark.parametrize(
    ("remembered", "others", "started", "with_engine"),
    [
        ([], 3, [], True),
        (["die"], 3, [], False),
        ([], 256, [10, 31], False),
        ([], 256, [29, 31], True),
        ([], 256, [], False),
    ],
    ids=["engine restarted", "end remembered", "engine was up", "all restarted", "nothing suggests a crash"],
)
def test_container_ended_with_its_engine(
    remembered: list[str], others: int, started: list[int], *, with_engine: bool
) -> None:
    engine = cast("docker.APIClient", RememberingEngine(remembered, others, started))
    times = {"StartedAt": "2026-01-01T12:00:00Z", "FinishedAt": "2026-01-01T12:30:00Z"}
    found = {"Id": BOT, "State": {"Running": False, "ExitCode": 255, **times}}
    assert has_ended_with_engine(engine, found) is with_engine
