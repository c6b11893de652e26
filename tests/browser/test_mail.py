"""Tests of mails and of the operators' mail page in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from daemon.mail.emails import Email
from daemon.mail.rendering import render
from portal.database import Database
from portal.models import MailState, OutgoingMail
from portal.paths import ROOT
from portal.services.mail import delivery, outbox
from portal.services.weekly_summary import WeeklySummary
from tests.browser.conftest import Open
from tests.browser.test_every_page import AXE
from tests.support.scene import Scene

pytestmark = pytest.mark.browser

LINK = "https://portal.example.com/invite/rvinGknZo5UFeSbkK0ZMwMMbRvRXnU5jwZ0l8fPcb4E"
NAMES = dict.fromkeys(
    (
        *("name", "org", "inviter", "owner", "target", "bots", "updated", "unchanged", "stuck", "bot", "node"),
        *("reason", "progress", "files", "commit", "error", "channel", "releases", "needing_attention", "down"),
    ),
    "A Name " + 40 * "x",
)
FACTS: dict[str, Any] = {
    "link": LINK,
    "reset_link": LINK,
    "until": datetime(2100, 5, 4, 14, 5, tzinfo=UTC),
    "role": "admin",
    "old": "old@example.com",
    "new": "new@example.com",
    "version": "2.0.0",
    "is_owner": False,
    "updated_count": 2,
    "finding_count": 2,
    "pull_request": LINK,
    "sections": [{"title": "New", "items": ["Faxes are answered"]}],
    "instructions": "docker start 123456",
    "state": "aborted",
    "quarantined": True,
    "summary": WeeklySummary(datetime(2026, 11, 23, tzinfo=UTC), ["2.0.0"], 40, 1, 1, 2, 40, ["one"], ["two"]),
}
TEMPLATES = sorted(file.stem for file in (ROOT / "templates" / "mail").glob("[!_]*.jinja"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_mails_are_accessible_and_fit_phones(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 800})
    problems = []
    for template in TEMPLATES:
        about = {"product": "Flotilla", "home": "https://portal.example.com"}
        page.set_content(render(Email(template, "A subject", NAMES, FACTS), about, "html"))
        page.evaluate(AXE.read_text())
        # Mails are not pages, so rules about landmarks do not apply.
        violations = page.evaluate(
            "axe.run({rules: {region: {enabled: false}, 'landmark-one-main': {enabled: false}}})"
        )
        problems += [
            f"{template}: {v['id']} {[n['html'][:150] for n in v['nodes']]}" for v in violations["violations"]
        ]
        if page.evaluate("document.documentElement.scrollWidth") > 360:
            problems.append(f"{template} is too wide")
    assert TEMPLATES
    assert problems == []


def test_mail_page_follows_the_delivery_of_a_mail(visit: Open, page: Page, database: Database, scene: Scene) -> None:
    assert scene
    with database.transaction() as session:
        row = outbox.queue_mail(session, to="new@example.com", template="signup", dedupe_key="one", context={})
    visit("root", "/admin/mail/")
    line = page.get_by_role("row").filter(has_text="new@example.com")
    expect(line).to_contain_text("pending")

    with database.transaction() as session:
        attempt = delivery.claim_attempt(session, row.id, "example.com", row.next_attempt_at)
        assert attempt is not None
        delivery.mark_failed(session, attempt, "550 nobody here")
    expect(line).to_contain_text("550 nobody here", timeout=15000)

    page.get_by_role("link", name="1 failed").click()
    expect(page.get_by_role("button", name="Dismiss all on this page")).to_be_visible()
    expect(line.get_by_role("button", name="Dismiss: email to new@example.com")).to_be_visible()
    line.get_by_role("button", name="Send again: email to new@example.com").click()
    expect(page.get_by_role("status").filter(has_text="Email to new@example.com queued")).to_be_visible()
    with database.reading() as session:
        assert session.get_one(OutgoingMail, row.id).state is MailState.PENDING
