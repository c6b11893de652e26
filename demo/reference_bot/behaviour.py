"""What sets one release of the reference bot apart from another: its version and its manners."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Behaviour(StrEnum):
    """How a release behaves when it starts."""

    GOOD = "good"
    UNHEALTHY = "unhealthy"
    CRASHING = "crashing"
    MIGRATING = "migrating"
    CORRUPTING = "corrupting"


@dataclass(frozen=True)
class Identity:
    """A release as it knows itself; `start_seconds` is how long it takes to start."""

    version: str
    behaviour: Behaviour
    start_seconds: float


def load(path: Path) -> Identity:
    """Read the behaviour that was put into the image."""
    data = json.loads(path.read_text())
    return Identity(data["version"], Behaviour(data["behaviour"]), data["start_seconds"])
