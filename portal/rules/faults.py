"""What customers read about faults of their bots: one sentence per class of fault. Used by pages and the audit log.

The details of a fault may contain names of nodes, paths, commands, settings and log lines. Only operators read them.
"""

from __future__ import annotations

IMAGE_NOT_ALLOWED = (
    "This version can't be installed, because your provider does not allow its image. Ask your provider."
)

_INTERRUPTED = "A temporary technical problem interrupted the update."
_FAILED_UPDATES = {
    "failed": "The update is not possible with the current setup of the bot.",
    "rolled_back": "The new version did not start correctly.",
    "needs_attention": "The bot could not be restored automatically.",
}
_BOT_STATES = {
    "unhealthy": "The bot does not answer its health check.",
    "missing": "The bot's container was not found.",
    "unknown": "The bot is starting, or its server does not answer.",
}


def explain_failed_update(outcome: str, *, transient: bool) -> str:
    """Return why an update failed.

    Args:
        outcome: the state of the update.
        transient: whether the release cannot be the cause.

    Returns:
        A sentence; empty while the outcome is open.
    """
    if outcome == "failed" and transient:
        return _INTERRUPTED
    return _FAILED_UPDATES.get(outcome, "")


def explain_bot_state(state: str) -> str:
    """Return what the observed state of a bot means; empty where the word for the state says everything."""
    return _BOT_STATES.get(state, "")
