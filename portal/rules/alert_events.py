"""The events about which operators can be alerted, with their labels. Used by services and forms of alerts."""

from __future__ import annotations

from collections.abc import Iterable

LABELS: dict[str, dict[str, str]] = {
    "Updates and rollouts": {
        "bot.update_failed": "An update failed",
        "bot.updated": "A bot was updated",
        "rollout.started": "A rollout was started",
        "rollout.completed": "A rollout was completed",
        "rollout.paused": "A rollout was paused",
        "rollout.aborted": "A rollout was aborted",
        "rollout.resumed": "A rollout was resumed",
    },
    "Releases": {
        "release.detected": "A release was detected",
        "release.quarantined": "A release was quarantined",
        "release.released": "A quarantine was lifted",
        "image.vanished": "An image is no longer in its registry",
        "image.look_up_failed": "An image could not be added as a release",
        "fork.synced": "The fork was synced with upstream",
        "fork.conflict": "The fork conflicts with upstream",
        "fork.sync_refused": "A sync of the fork was refused",
    },
    "Bots and nodes": {
        "node.offline": "A node is offline",
        "node.online": "A node is online again",
        "bot.start_failed": "A bot could not be started",
        "bot.creation_failed": "The setup of a bot takes longer than usual",
        "bot.recovered": "A bot was recovered",
        "sync.blocked": "A bot refuses members",
        "sync.removals_refused": "A bot has too many unknown members",
    },
    "Platform": {
        "org.created": "An organization was created",
        "org.deletion_requested": "The deletion of an organization was requested",
        "mail.failed": "An email could not be delivered",
        "user.operator_granted": "A user became an operator",
        "user.operator_created": "An operator account was created",
    },
}
"""Labels by event tag, in groups."""

TAGS = frozenset(tag for group in LABELS.values() for tag in group)

TROUBLE = frozenset(
    {
        "bot.start_failed",
        "bot.update_failed",
        "fork.conflict",
        "fork.sync_refused",
        "image.vanished",
        "mail.failed",
        "node.offline",
        "release.quarantined",
        "rollout.aborted",
        "rollout.paused",
        "sync.blocked",
        "sync.removals_refused",
    }
)
"""Events that need attention. A new channel gets these unless the operator chooses others."""


def list_unknown(tags: Iterable[str]) -> list[str]:
    """Return the tags about which no alerts exist."""
    return sorted(set(tags) - TAGS)
