"""The operators' page about syncs of the bot's fork."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

import pytest

from portal.database import Database
from portal.models import ForkSyncState
from portal.services import fork_syncs
from tests.support.cast import SignedIn

pytestmark = pytest.mark.requests

NOW = datetime(2026, 3, 14, 6, tzinfo=UTC)
COMMIT = {"id": "a" * 40, "author": "Frida Fork", "subject": "feat: <b>own</b>"}
FINDING = {
    "path": "ui/src/Form.tsx",
    "word": "adapterType",
    "subject": "infrastructure",
    "lines": [3, 9],
    "excerpt": "x",
    "suggestion": "{!isHosted && (…)}",
}


def report(**values: Any) -> dict[str, Any]:
    """A report as the job stores it."""
    scan = {"files": 12, "folders": ["ui"], "new": [], "known": [], "gone": []}
    empty: dict[str, Any] = {
        "version": None,
        "changes": 0,
        "pull_request": None,
        "conflict": None,
        "people": [],
        "warnings": [],
    }
    return {"branch": "main", "upstream": "b" * 40, "findings": 0, "scan": scan, **empty, **values}


def add_sync(database: Database, state: ForkSyncState, error: str | None = None, **values: Any) -> None:
    """Add a sync that ended."""
    with database.transaction() as session:
        sync_id = fork_syncs.claim(session, time(6), NOW)
        assert sync_id is not None
        stored = {} if error else report(**values)
        fork_syncs.finish(session, sync_id, state, NOW, report=stored, error=error)


def test_page_says_how_to_switch_syncs_on(signed_in: SignedIn) -> None:
    page = signed_in("root").get("/admin/upstream").text
    assert "Set UPSTREAM_REPO" in page
    assert "No syncs yet" in page


@pytest.mark.every_database
def test_page_shows_pull_request_and_findings(signed_in: SignedIn, database: Database) -> None:
    scan = {"files": 12, "folders": ["ui"], "new": [FINDING], "known": [], "gone": []}
    pull_request = {"number": 7, "url": "https://forge.example/acme/bot/pull/7", "created": True}
    warnings = ["Upstream rewrote its history and removed 1 commit."]
    add_sync(
        database,
        ForkSyncState.SYNCED,
        version="2026-03-14",
        changes=3,
        pull_request=pull_request,
        scan=scan,
        findings=1,
        warnings=warnings,
    )
    page = signed_in("root").get("/admin/upstream").text
    for text in (
        'href="https://forge.example/acme/bot/pull/7"',
        "3 changes",
        "2026-03-14",
        "ui/src/Form.tsx",
        "adapterType",
        "3, 9",
        "{!isHosted &amp;&amp; (…)}",
        *warnings,
    ):
        assert text in page


def test_page_shows_a_conflict_with_both_sides(signed_in: SignedIn, database: Database) -> None:
    theirs = {"id": "c" * 40, "author": "Uma Upstream", "subject": "feat: theirs"}
    file = {"path": "server/index.js", "kind": "changed on both sides", "upstream": [theirs]}
    add_sync(database, ForkSyncState.CONFLICT, conflict={"commit": COMMIT, "files": [file], "remaining": 0})
    page = signed_in("root").get("/admin/upstream").text
    for text in ("aaaaaaaaaaaa", "Frida Fork", "server/index.js", "changed on both sides", "Uma Upstream"):
        assert text in page
    assert "<b>own</b>" not in page


@pytest.mark.parametrize(
    ("state", "values", "text"),
    [
        (ForkSyncState.REFUSED, {"error": "HEAD is detached."}, "HEAD is detached."),
        (ForkSyncState.WAITING, {"people": [COMMIT]}, "Syncs continue after it is merged"),
        (ForkSyncState.UP_TO_DATE, {}, "12 files scanned. Nothing to hide was found."),
        (ForkSyncState.SYNCED, {"pull_request": {"number": 7, "url": "javascript:alert(1)"}}, "#7"),
    ],
)
def test_page_shows_every_state(
    signed_in: SignedIn, database: Database, state: ForkSyncState, values: dict[str, Any], text: str
) -> None:
    add_sync(database, state, **values)
    page = signed_in("root").get("/admin/upstream").text
    assert text in page
    assert "javascript:" not in page


def test_page_shows_a_running_sync(signed_in: SignedIn, database: Database) -> None:
    with database.transaction() as session:
        fork_syncs.claim(session, time(6), NOW)
    assert "running" in signed_in("root").get("/admin/upstream").text
