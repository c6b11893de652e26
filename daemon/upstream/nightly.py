"""The nightly job: claim the due sync, run it, record the result. Used by `daemon.jobs`.

The sync itself runs outside of transactions. If a worker dies during it, another worker syncs again later and
recovers the repository.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from datetime import datetime
from typing import Any

from daemon.upstream.errors import UpstreamError
from daemon.upstream.publishing.forges import ForgeSettings
from daemon.upstream.report import Outcome, SyncReport
from daemon.upstream.sync import Mode, SyncOptions, sync
from portal.database import Database
from portal.models import ForkSyncState
from portal.services import fork_syncs
from portal.settings import Settings, UpstreamSettings

logger = logging.getLogger(__name__)

_LONGEST_LIST = 100
_LONGEST_TEXT = 2000
_STATES = {
    Outcome.UP_TO_DATE: ForkSyncState.UP_TO_DATE,
    Outcome.SYNCED: ForkSyncState.SYNCED,
    Outcome.WAITING: ForkSyncState.WAITING,
    Outcome.CONFLICT: ForkSyncState.CONFLICT,
}


def sync_fork(database: Database, settings: Settings, clock: Callable[[], datetime]) -> None:
    """Run the due sync, if any.

    Args:
        database: where the result is recorded.
        settings: with the repository and the forge.
        clock: returns the moment. The end of a sync is minutes after its start.
    """
    upstream = settings.upstream
    if upstream.repo is None:
        return
    with database.transaction() as session:
        sync_id = fork_syncs.claim(session, upstream.time_of_day, clock())
    if sync_id is None:
        return
    state, report, error = _run(upstream, clock())
    with database.transaction() as session:
        fork_syncs.finish(session, sync_id, state, clock(), report=report, error=error)


def _run(upstream: UpstreamSettings, now: datetime) -> tuple[ForkSyncState, dict[str, Any], str | None]:
    forge = ForgeSettings(upstream.forge_token, upstream.forge, upstream.forge_api) if upstream.forge_token else None
    mode = Mode.PULL_REQUEST if forge else Mode.PUSH
    options = SyncOptions(mode, tuple(shlex.split(upstream.rewriter)), forge, now.date())
    assert upstream.repo is not None  # noqa: S101 - the caller checked it
    try:
        report = sync(upstream.repo, options, lambda step: logger.info("%s", step))
    except UpstreamError as refusal:
        logger.warning("the sync with upstream was refused: %s", refusal)
        return ForkSyncState.REFUSED, {}, _storable(str(refusal))
    logger.info("the sync with upstream ended: %s", report.outcome)
    return _STATES[report.outcome], _storable_report(report), None


def _storable_report(report: SyncReport) -> dict[str, Any]:
    stored: dict[str, Any] = _storable({**report.as_json(), "findings": len(report.scan.findings)})
    return stored


def _storable(value: Any) -> Any:
    """Shorten lists and texts, and replace what a database or a page cannot contain, such as names in no encoding."""
    match value:
        case dict():
            return {key: _storable(part) for key, part in value.items()}
        case list() | tuple():
            return [_storable(part) for part in value[:_LONGEST_LIST]]
        case str():
            return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:_LONGEST_TEXT]
        case _:
            return value
