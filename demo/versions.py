"""The releases of the reference bot, one for each outcome of an update. Used by the demo and the tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from demo.reference_bot.behaviour import Behaviour


@dataclass(frozen=True)
class BotVersion:
    """One release of the reference bot.

    Attributes:
        version: shown in the changelog and in the bot.
        behaviour: what the release does when it starts.
        start_seconds: how long it takes until it listens.
        migration_seconds: how long its migration takes after that.
        date: date of the changelog, as `YYYY-MM-DD`.
        changes: the changelog's sections ("New", "Improved", "Fixed") with their items; None for no changelog.
    """

    version: str
    behaviour: Behaviour = Behaviour.GOOD
    start_seconds: float = 0
    migration_seconds: float = 0
    date: str = "2026-01-15"
    changes: Mapping[str, Sequence[str]] | None = field(default=None, hash=False)

    def changelog(self) -> dict[str, object] | None:
        """Return the content of the image's changelog file, or None without one."""
        if self.changes is None:
            return None
        sections = [{"title": title, "items": list(items)} for title, items in self.changes.items()]
        return {"version": self.version, "date": self.date, "sections": sections}


FIRST = BotVersion("1.0.0", date="2026-01-15", changes={"New": ["Notes that survive every update"]})
SECOND = BotVersion(
    "1.1.0",
    date="2026-02-12",
    changes={"New": ["A page for your notes"], "Fixed": ["Long notes are no longer cut off"]},
)
THIRD = BotVersion("1.2.0", date="2026-03-11", changes={"Improved": ["Notes appear twice as fast"]})
SLOW = BotVersion("1.3.0", start_seconds=3, date="2026-04-02", changes={"Improved": ["Warms up before it answers"]})
MIGRATING = BotVersion(
    "1.4.0", Behaviour.MIGRATING, date="2026-04-20", changes={"New": ["Notes remember when they were written"]}
)
UNHEALTHY = BotVersion(
    "1.5.0", Behaviour.UNHEALTHY, date="2026-05-07", changes={"Improved": ["A more careful health check"]}
)
CRASHING = BotVersion("1.6.0", Behaviour.CRASHING, date="2026-05-21", changes={"New": ["Patience is configurable"]})
CORRUPTING = BotVersion(
    "1.7.0", Behaviour.CORRUPTING, date="2026-06-04", changes={"Improved": ["Notes are stored more compactly"]}
)
SLOW_MIGRATION = BotVersion("1.4.1", Behaviour.MIGRATING, migration_seconds=2)
CRASHING_LOUDLY = BotVersion("1.6.1", Behaviour.CRASHING_LOUDLY)
CORRUPTING_AND_CRASHING = BotVersion("1.7.1", Behaviour.CORRUPTING_AND_CRASHING)
"""Fails at once, so that tests of many rollbacks do not wait for the end of a health check."""
WITHOUT_CHANGELOG = BotVersion("1.8.0", date="2026-06-18")

ALL_VERSIONS = (FIRST, SECOND, THIRD, SLOW, MIGRATING, UNHEALTHY, CRASHING, CORRUPTING, WITHOUT_CHANGELOG)
