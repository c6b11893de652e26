"""Tests of the pages with the log of a bot."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal import live_readings
from portal.database import Database
from portal.live_readings import Reading
from portal.models import Bot, BotUpdate, FleetSettings, UpdateState, User, utcnow
from portal.queue import READINGS_QUEUE, open_queue
from tests import factories
from tests.support.cast import SignedIn
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.requests

AT = "2026-11-30T12:00:00.123456789Z"


def store(app: Flask, scene: Scene, *lines: str, error: str | None = None, at: datetime | None = None) -> str:
    """Keep a log of the first bot, as a worker does, and return the address of its page."""
    content: dict[str, Any] = {"lines": [[AT, "fail" in line, line] for line in lines], "error": error}
    for reading in (Reading.LOG, Reading.LONG_LOG):
        live_readings.store(app.extensions["redis"], reading, scene.bots[0], content, at or utcnow())
    return f"/o/acme/bots/{scene.bots[0]}/logs"


def hide_logs(database: Database) -> None:
    """Hide logs from members."""
    with database.transaction() as session:
        session.query(FleetSettings).one().members_read_logs = False


def fragment(client: FlaskClient, database: Database, scene: Scene, address: str) -> Any:
    """Request the part with the lines, as htmx does."""
    with database.reading() as session:
        org_id = session.get_one(Bot, scene.bots[0]).org_id
    headers = {"HX-Request": "true", "X-Tenant-Id": org_id}
    return client.get(address, query_string={"part": "lines"}, headers=headers)


@pytest.mark.parametrize("person", ["alice", "carol", "bob", "root"])
def test_all_roles_follow_the_log_of_a_bot(
    app: Flask, signed_in: SignedIn, scene: Scene, database: Database, person: str
) -> None:
    page, client = store(app, scene, "started", "<script>alert(1)</script> failed"), signed_in(person)
    text = client.get(page).text
    assert "<span>started</span>" in text
    assert '<b title="error output">err</b><span>&lt;script&gt;alert(1)&lt;/script&gt; failed</span>' in text
    assert page in client.get(page.removesuffix("/logs")).text
    assert 'hx-trigger="every 2s"' in fragment(client, database, scene, page).text
    jobs = [job.func_name for job in open_queue(app.extensions["redis"], READINGS_QUEUE).get_jobs()]
    assert jobs.count("daemon.jobs.read_log") == 1, "the first request counts for the next two seconds"


def test_operators_can_hide_logs_from_members(
    app: Flask, signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    page = store(app, scene, "private")
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
        session.query(BotUpdate).one().log_tail = "migration 7 failed"
    hide_logs(database)
    for address in (page, f"{page}/download"):
        answer = signed_in("bob").get(address)
        assert (answer.status_code, "private" in answer.text) == (403, False)
        assert signed_in("carol").get(address).status_code == 200
        assert signed_in("root").get(address).status_code == 200
    bot_page = page.removesuffix("/logs")
    for person, reads in (("bob", False), ("alice", True)):
        text = signed_in(person).get(bot_page).text
        assert (page in text, "migration 7 failed" in text) == (reads, reads)


def test_bot_of_another_organization_has_no_log(
    app: Flask, signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    page = store(app, scene, "private")
    with database.transaction() as session:
        factories.org(session, session.query(User).filter_by(name="Mallory").one(), "second")
    for suffix in ("", "/download"):
        assert signed_in("mallory").get(page + suffix).status_code == 404
        assert signed_in("mallory").get(page.replace("acme", "second") + suffix).status_code == 404


def test_search_shows_matching_lines_only(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    page = store(app, scene, "Request 1", "done", "request 2")
    text = signed_in("bob").get(page, query_string={"q": "REQUEST"}).text
    assert "2 lines with “REQUEST” in the latest 3 lines" in text
    assert "<span>done</span>" not in text
    assert "0 lines with" in signed_in("bob").get(page, query_string={"q": "<b>"}).text


def test_paused_page_does_not_refresh(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    page = store(app, scene, "one", at=utcnow() - timedelta(seconds=30))
    text = signed_in("bob").get(page, query_string={"paused": "1"}).text
    assert 'hx-trigger="every 2s"' not in text
    assert "It is paused." in text
    assert len(open_queue(app.extensions["redis"], READINGS_QUEUE)) == 0
    assert "this page tries again" in signed_in("bob").get(page).text


def test_log_that_is_not_there_yet_or_cannot_be_read(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    page = f"/o/acme/bots/{scene.bots[0]}/logs"
    assert "Reading the log…" in signed_in("bob").get(page).text
    assert signed_in("bob").get(f"{page}/download").location == page
    store(app, scene, error="unix:///var/run/docker.sock refused")
    customer, operator = (signed_in(name).get(page).text for name in ("alice", "root"))
    assert ("read right now" in customer, "docker.sock" in customer) == (True, False)
    assert "docker.sock" in operator
    assert signed_in("root").get(f"{page}/download").location == page


def test_download_is_a_text_file(app: Flask, signed_in: SignedIn, scene: Scene) -> None:
    page = store(app, scene, "<b>one</b>", "two")
    answer = signed_in("bob").get(f"{page}/download")
    assert answer.text == "2026-11-30T12:00:00.123Z <b>one</b>\n2026-11-30T12:00:00.123Z two\n"
    assert answer.mimetype == "text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert str(answer.headers["Content-Disposition"]).startswith('attachment; filename="paperclip-1-20')
