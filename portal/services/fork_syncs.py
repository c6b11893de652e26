"""Nightly syncs of the bot's fork: when one is due, who runs it, and what came out. Used by the job and a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, ForkSync, ForkSyncState, move, update_where
from portal.services import events
from portal.services.mail import outbox

CLAIM_DURATION = timedelta(hours=2)
"""After this time a sync that has not ended counts as interrupted. Another worker runs it again, which is safe."""
KEEP_SYNCS = timedelta(days=90)

_EVENTS = {
    ForkSyncState.SYNCED: EventTag.FORK_SYNCED,
    ForkSyncState.CONFLICT: EventTag.FORK_CONFLICT,
    ForkSyncState.REFUSED: EventTag.FORK_SYNC_REFUSED,
}
"""Events by the state in which a sync ends. The other states changed nothing."""


def is_due(session: Session, time_of_day: time, now: datetime) -> bool:
    """Return whether a sync must be started: today's, a missed one, or one that was interrupted."""
    last = _find_scheduled(session, _last_moment(time_of_day, now))
    return last is None or _is_interrupted(last, now)


def claim(session: Session, time_of_day: time, now: datetime) -> str | None:
    """Claim the due sync for this worker.

    Args:
        session: a short transaction.
        time_of_day: when syncs run, in UTC.
        now: the moment.

    Returns:
        The id of the sync, or None if none is due or another worker was faster.
    """
    scheduled_for = _last_moment(time_of_day, now)
    last = _find_scheduled(session, scheduled_for)
    claimed = {"started_at": now, "claimed_until": now + CLAIM_DURATION}
    if last is not None:
        unclaimed = (ForkSync.id == last.id, ForkSync.state == ForkSyncState.RUNNING, ForkSync.claimed_until <= now)
        return last.id if update_where(session, ForkSync, *unclaimed, **claimed) else None
    sync = ForkSync(scheduled_for=scheduled_for, **claimed)
    try:
        with session.begin_nested():
            session.add(sync)
    except IntegrityError:
        return None
    return sync.id


def finish(
    session: Session,
    sync_id: str,
    state: ForkSyncState,
    now: datetime,
    *,
    report: dict[str, Any],
    error: str | None = None,
) -> None:
    """Record how a sync ended, with an event and a mail to operators where they must know.

    Operators get a mail about a conflict, a refusal or new findings, once for the same problem.

    Args:
        session: the transaction.
        sync_id: from `claim`.
        state: how the sync ended.
        now: the moment.
        report: the report of `daemon.upstream`; empty for a refusal.
        error: why the sync was refused, or None.
    """
    sync = session.get_one(ForkSync, sync_id)
    if not move(session, sync, ForkSyncState.RUNNING, state, report=report, error=error, finished_at=now):
        return
    if state in _EVENTS:
        events.record(session, _EVENTS[state], data=_summarize(report, error))
    problem = describe_problem(sync)
    if problem is not None:
        fingerprint = hashlib.sha256(json.dumps(problem, sort_keys=True).encode()).hexdigest()[:24]
        outbox.queue_for_operators(session, "fork_sync", fingerprint, {"sync_id": sync.id})


def describe_problem(sync: ForkSync) -> Any:
    """Return what operators must know about, in a form that is equal for the same problem, or None."""
    match sync.state:
        case ForkSyncState.CONFLICT:
            return [sync.report["conflict"]["commit"]["subject"], sorted(_conflicting_paths(sync.report))]
        case ForkSyncState.REFUSED:
            return sync.error
        case _:
            return sorted([finding["path"], finding["word"]] for finding in _new_findings(sync.report)) or None


def list_recent(session: Session, limit: int = 20) -> Sequence[ForkSync]:
    """List the last syncs, newest first."""
    return session.scalars(sa.select(ForkSync).order_by(ForkSync.scheduled_for.desc()).limit(limit)).all()


def next_moment(time_of_day: time, now: datetime) -> datetime:
    """Return when the next sync is scheduled."""
    return _last_moment(time_of_day, now) + timedelta(days=1)


def _last_moment(time_of_day: time, now: datetime) -> datetime:
    today = now.replace(hour=time_of_day.hour, minute=time_of_day.minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def _find_scheduled(session: Session, scheduled_for: datetime) -> ForkSync | None:
    return session.scalars(sa.select(ForkSync).where(ForkSync.scheduled_for == scheduled_for)).one_or_none()


def _is_interrupted(sync: ForkSync, now: datetime) -> bool:
    return sync.state is ForkSyncState.RUNNING and sync.claimed_until <= now


def _summarize(report: dict[str, Any], error: str | None) -> dict[str, Any]:
    """Return the facts of an event."""
    if error is not None:
        return {"error": error}
    if report["conflict"]:
        commit = report["conflict"]["commit"]
        return {"commit": f"{commit['subject']} ({commit['author']})", "files": ", ".join(_conflicting_paths(report))}
    url = report["pull_request"]["url"] if report["pull_request"] else None
    return {"version": report["version"], "upstream": report["upstream"], "pull_request": url}


def _conflicting_paths(report: dict[str, Any]) -> list[str]:
    return [file["path"] for file in report["conflict"]["files"]]


def _new_findings(report: dict[str, Any]) -> list[dict[str, Any]]:
    return report["scan"]["new"] if report else []
