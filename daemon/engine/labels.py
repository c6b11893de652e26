"""Names and labels of the containers that Flotilla creates on an engine. Used to find and remove them later."""

from __future__ import annotations

import re

INSTALL_LABEL = "flotilla.install"
"""Id of the installation that created a container. Flotilla removes only containers with this id."""
BOT_LABEL = "flotilla.bot"
UPDATE_LABEL = "flotilla.update"
KEEP_REPOSITORY = "flotilla/keep"
"""Local repository whose tag with the id of a bot protects the bot's old image from pruning during an update."""
CREATION_LABEL = "flotilla.creation"
"""Id of the settings with which the container of a new bot was created."""

_NAME = re.compile(r"flotilla-(?P<update>[a-z0-9]+)-(?P<role>new|old|probe|delete|snap-\d+|restore-\d+)(-f\d+)?")
CHANGELOG_PREFIX = "flotilla-changelog-"
"""Name prefix of containers that are created, but never started, to read the changelog of an image."""
DOCTOR_ID_PREFIX = "doctor"
"""`flotilla doctor` uses helpers like an update, under an id that begins with this word."""
_SHORT_LIVED = re.compile(rf"{CHANGELOG_PREFIX}[a-z0-9]+|flotilla-{DOCTOR_ID_PREFIX}[a-z0-9]+-probe(-f\d+)?")

_BOT_ROLES = frozenset({"new", "old"})


def bot_container_name(bot_id: str) -> str:
    """Return the name of the container of a bot that was created from the template, without any customer's name."""
    return f"flotilla-bot-{bot_id}"


def bot_volume_name(bot_id: str, number: int) -> str:
    """Return the name of a volume of a bot that was created from the template.

    Args:
        bot_id: the bot. Ids are never reused, so that no bot inherits the data of another one.
        number: its position in the template, from 1.
    """
    return f"flotilla-bot-{bot_id}-{number}"


def container_name(update_id: str, role: str) -> str:
    """Return the fixed name of a container of an update, under which a worker that takes over finds it.

    Args:
        update_id: the update.
        role: `new` or `old` (set aside).
    """
    return f"flotilla-{update_id}-{role}"


def helper_name(update_id: str, role: str, fence: int) -> str:
    """Return the name of a helper container of an update.

    Args:
        update_id: the update.
        role: `probe`, `delete`, `snap-<n>` or `restore-<n>`.
        fence: fence of the bot's lease. With it in the name, a late call of a worker that lost the lease cannot hit
            a helper of the worker that took over.
    """
    return f"{container_name(update_id, role)}-f{fence}"


def update_id_of(name: str) -> str | None:
    """Return the id of the update that a temporary or helper name belongs to, or None for any other name."""
    match = _NAME.fullmatch(name)
    return match["update"] if match else None


def is_short_lived(name: str) -> bool:
    """Return whether a name is that of a container which belongs to no update and is needed for minutes only."""
    return _SHORT_LIVED.fullmatch(name) is not None


def is_helper(name: str) -> bool:
    """Return whether a name is that of a helper container, which holds no data."""
    match = _NAME.fullmatch(name)
    return match is not None and match["role"] not in _BOT_ROLES
