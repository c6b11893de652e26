"""Words for the progress of the member sync, as customers read them: no addresses, status codes or other details."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portal.services.orgs.sync_status import MemberSyncStatus, Obstacle, SyncProgress

_OBSTACLES = {
    Obstacle.CREATING: "The bot is being set up.",
    Obstacle.REMOVING: "The bot is scheduled for removal.",
    Obstacle.STOPPED: "The bot is stopped.",
    Obstacle.UPDATING: "The bot is being updated.",
    Obstacle.REPAIR: "Your provider is repairing the bot.",
    Obstacle.UNKNOWN: "The bot is starting, or its server does not answer.",
    Obstacle.UNREACHABLE: "The bot is not responding.",
}
_NEXT_STEPS = {
    SyncProgress.PROVISIONING: "Access",
    SyncProgress.CHANGING: "The change",
    SyncProgress.REMOVING: "The removal",
}
_LABELS = {SyncProgress.ENDED: "access ended", SyncProgress.NOT_CONNECTED: "managed in the bot"}


def label(progress: SyncProgress) -> str:
    """Return the short label of a progress."""
    return _LABELS.get(progress, progress.value)


def explain(status: MemberSyncStatus, name: str) -> str:
    """Explain why a bot lags behind and what happens next; empty where there is nothing to explain.

    Args:
        status: the sync of one person with one bot.
        name: the name of the person.
    """
    return "" if status.is_settled else " ".join(_explain_pending(status, name))


def count_pending(statuses: Sequence[MemberSyncStatus]) -> str:
    """Return in how many of several bots a change is pending: `1 of 3 bots`; or `3 bots` if it is pending in none."""
    pending = sum(not status.is_settled for status in statuses)
    return f"{pending} of {len(statuses)} bots" if pending else f"{len(statuses)} bots"


def _explain_pending(status: MemberSyncStatus, name: str) -> Iterator[str]:
    obstacle = status.bot.obstacle
    if status.progress is SyncProgress.BLOCKED:
        yield "The bot refused this. Your provider is informed."
    elif obstacle is not None:
        yield _OBSTACLES[obstacle]
        if obstacle is not Obstacle.REMOVING:
            yield f"{_NEXT_STEPS[status.next_step]} follows when the bot runs."
    elif status.has_failed:
        yield "The last attempt failed. We keep trying."
    if status.is_demotion:
        yield f"Until the bot confirms the lower role, {name} can't open it."
