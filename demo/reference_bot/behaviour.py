"""The version and the behaviour of a release of the reference bot. Used by the bot and by `demo.versions`."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Behaviour(StrEnum):
    """What a release does when it starts."""

    GOOD = "good"
    UNHEALTHY = "unhealthy"
    CRASHING = "crashing"
    CRASHING_LOUDLY = "crashing_loudly"
    MIGRATING = "migrating"
    CORRUPTING = "corrupting"


@dataclass(frozen=True)
class ReleaseInfo:
    """Version, behaviour and start duration in seconds of a release."""

    version: str
    behaviour: Behaviour
    start_seconds: float


def read_release(path: Path) -> ReleaseInfo:
    """Read the release information that the build stored in the image."""
    data = json.loads(path.read_text())
    return ReleaseInfo(data["version"], Behaviour(data["behaviour"]), data["start_seconds"])
