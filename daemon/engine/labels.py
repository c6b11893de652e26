"""Names and labels of everything that updates make on an engine, so that it can be found again and cleared away."""

from __future__ import annotations

import re

INSTALL_LABEL = "flotilla.install"
"""Id of the installation that made a thing; nobody else's things are ever touched."""
BOT_LABEL = "flotilla.bot"
UPDATE_LABEL = "flotilla.update"

_NAME = re.compile(r"flotilla-(?P<update>[a-z0-9]+)-(?P<role>new|old|probe|delete|snap-\d+|restore-\d+)")
CHANGELOG_PREFIX = "flotilla-changelog-"
"""Begins the names of containers that are made, never started, to read an image's changelog."""

_CONTAINERS_OF_BOTS = frozenset({"new", "old"})


def container_name(update_id: str, role: str) -> str:
    """The fixed name under which an update, and whoever takes it over, knows one of its containers.

    Args:
        update_id: the update.
        role: `new`, `old` (set aside) or that of a helper: `probe`, `delete`, `snap-<n>`, `restore-<n>`.
    """
    return f"flotilla-{update_id}-{role}"


def update_id_of(name: str) -> str | None:
    """The update that a temporary or helper name belongs to; None for any other name."""
    match = _NAME.fullmatch(name)
    return match["update"] if match else None


def is_helper(name: str) -> bool:
    """Whether the name is that of a helper, which holds no data of its own."""
    match = _NAME.fullmatch(name)
    return match is not None and match["role"] not in _CONTAINERS_OF_BOTS
