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
    CORRUPTING_AND_CRASHING = "corrupting_and_crashing"


@dataclass(frozen=True)
class ReleaseInfo:
    """What distinguishes a release from others.

    Attributes:
        version: shown on pages.
        behaviour: what the release does when it starts.
        start_seconds: time until the release listens.
        migration_seconds: time after that until the release is healthy.
    """

    version: str
    behaviour: Behaviour = Behaviour.GOOD
    start_seconds: float = 0
    migration_seconds: float = 0


def read_release(path: Path) -> ReleaseInfo:
    """Read the release information that the build stored in the image."""
    data = json.loads(path.read_text())
    return ReleaseInfo(
        data["version"],
        Behaviour(data["behaviour"]),
        start_seconds=data["start_seconds"],
        migration_seconds=data.get("migration_seconds", 0),
    )
